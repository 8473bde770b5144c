"""Tests of what clients and publishers may do."""
