"""Tests of the edges that both sides share."""
