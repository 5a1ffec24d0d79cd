"""How long a view takes to be of use after its start, without and with a store, and what it asks of the hosts."""
