"""`make soak`: clients connect, are cut off, sleep and resume; nothing may be lost, doubled or reordered."""
