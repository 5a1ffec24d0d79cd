"""The broker's users, rights and policies: from a list of hosts, into the broker, and what differs there."""
