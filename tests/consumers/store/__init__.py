"""What outlives the view."""
