"""All benches of what vmpulse costs a fleet, one after the other, and what they found as tables and plots."""
