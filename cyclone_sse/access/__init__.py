"""The rights of clients and publishers, and when they expire. Decided once, before a stream opens."""
