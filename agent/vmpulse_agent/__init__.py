"""The host side of vmpulse: reads a hypervisor, publishes what changes, answers detail verbs."""
