"""Unit tests of the room ``daemon``."""
