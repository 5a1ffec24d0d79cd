"""The libvirt edge: pure parts with recorded inputs, the test driver, and real QEMU (marker lab)."""
