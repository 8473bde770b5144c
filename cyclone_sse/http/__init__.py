"""HTTP: connections and their limits, requests from bytes, and the common parts of all answers.

Knows nothing of channels or events.
"""
