"""Tests of who may hear and say what."""
