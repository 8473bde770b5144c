"""`make soak`: clients come, are cut off, sleep and come back; nothing may be lost, doubled or reordered."""
