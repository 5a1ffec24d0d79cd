"""How long a change at a hypervisor takes to be known, beside a bare message and beside polling."""
