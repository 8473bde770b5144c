"""What tests and benchmarks share: real servers and clients, and the applications that a server asks."""
