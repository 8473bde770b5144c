"""From an event to the clients: its id and bytes, history and states, subscribers, and the walk over them.

Independent of the source of messages and of HTTP. ``hub`` is the interface for the packages above.
"""
