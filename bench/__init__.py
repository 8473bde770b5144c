"""`make bench`: the server, the physical limit and nginx with nchan under the same load, in turns."""
