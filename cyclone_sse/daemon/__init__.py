"""The process: its command line, its ports and certificates, its start and its end."""
