"""Tests of the simulator and its private broker."""
