"""Unit tests of the room ``delivery``."""
