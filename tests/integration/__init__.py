"""Tests against real processes: the daemon, its brokers, proxies and clients."""
