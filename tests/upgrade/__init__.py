"""Hosts of other versions beside today's: those that were, from the golden files, and those that may come."""
