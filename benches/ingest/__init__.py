"""What the view's CPU time for a message is, beside that of a callback that does nothing."""
