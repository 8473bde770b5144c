"""`make crowd`: tens of thousands of clients on one machine, and the replacement of one worker."""
