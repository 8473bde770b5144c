"""Generators: what in docs/ and media/ is made from the source by ``make docs``."""
