"""Holds the ratios of short benches against what was committed, and tells which have become worse."""
