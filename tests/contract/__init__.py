"""Tests of the contract: bytes in, values out, no network and no clock."""
