"""Tests that open no sockets and read no clock; one module for each module of the package."""
