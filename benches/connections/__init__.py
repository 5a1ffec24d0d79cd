"""What becomes of the connections of a whole fleet's agents when their broker is killed."""
