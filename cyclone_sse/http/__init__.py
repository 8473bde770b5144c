"""HTTP: connections, how many and how long; from bytes to requests; what all answers share.

Knows nothing of channels or events.
"""
