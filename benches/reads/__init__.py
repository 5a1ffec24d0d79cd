"""What those who read a view cost it, and what they cost each other: metrics, lists, event streams."""
