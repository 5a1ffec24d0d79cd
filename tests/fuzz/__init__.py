"""Hostile input: every decoder, and the view behind them, fed with mutated messages."""
