"""Tests of cyclone-sse: `unit` opens no sockets, `integration` runs real processes."""
