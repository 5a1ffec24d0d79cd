"""The engine side of vmpulse: a materialised view of all VMs that repairs itself, and what reads it."""
