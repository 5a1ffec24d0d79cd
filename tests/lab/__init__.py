"""What the tests run against real programs: a private libvirt, and the lab that is built on it."""
