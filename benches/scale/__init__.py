"""How large a fleet one view takes, on a machine that also carries the broker and the load."""
