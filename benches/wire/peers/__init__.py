"""Those that poll: engines of 2013 and of today, the seed's own proposal, and Prometheus, over real sockets."""
