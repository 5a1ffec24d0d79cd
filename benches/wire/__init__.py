"""What a fleet costs on the wire, told by vmpulse and by those that poll: real sockets, bytes in both directions."""
