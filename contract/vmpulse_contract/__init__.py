"""What travels between agents and readers, and what it means. No I/O, no clock."""
