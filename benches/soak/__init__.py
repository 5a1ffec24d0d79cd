"""Everything runs on and on, and must not grow, tire or drift from the truth: see ``__main__``."""
