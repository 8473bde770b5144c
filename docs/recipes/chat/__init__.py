"""A chat: presence, typing, history."""
