"""The view's state machine, and what it is made of."""
