"""From an event to the clients: its id and bytes, what is remembered, who listens, and the walk over them.

Knows no source of messages and no HTTP. ``hub`` is the one door for those above.
"""
