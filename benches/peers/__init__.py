"""Programs that read the same domains, to compare with: each is started, asked every tick, and ended."""
