"""Fuzzing what parses bytes that somebody else sends: the upstream's responses, and clients' headers."""
