"""The client libraries in clients/, against the real server."""
