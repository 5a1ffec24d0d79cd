"""A fleet that does not exist, run by the real agent, and the private broker that it talks through."""
