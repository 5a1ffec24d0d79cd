"""Tests of what the benches claim."""
