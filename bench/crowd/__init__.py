"""`make crowd`: tens of thousands of clients on one machine, and one worker replaced under them."""
