"""Unit tests of the room ``http``."""
