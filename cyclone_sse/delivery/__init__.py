"""From an event to the clients: its id and bytes, history and states, subscribers, and the walk over them.

Knows no source of messages and no HTTP. ``hub`` is the interface for the rooms above.
"""
