"""The HTTP API and the metrics, over real sockets."""
