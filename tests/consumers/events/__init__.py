"""Tests of fleet events."""
