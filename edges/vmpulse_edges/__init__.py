"""The edges that programs of both sides share: the way to the broker, where settings come from, how log lines look."""
