"""Generators of the files in docs/ and media/ that ``make docs`` makes from the source."""
