"""What a host that says as much as it can takes from the others, on a real broker."""
