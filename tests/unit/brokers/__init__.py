"""Unit tests of the room ``brokers``."""
