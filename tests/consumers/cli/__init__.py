"""The program ``vmpulse``, run as people and scripts run it."""
