"""The broker's users and their rights, on a real broker."""
