"""Real processes and clients that tests and benchmarks share: servers, browsers of the protocol, sites."""
