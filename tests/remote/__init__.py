"""Transport, transfer and jobs against a real SSH server on loopback."""
