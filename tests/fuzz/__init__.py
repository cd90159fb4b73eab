"""Fuzz the parsers of foreign bytes: the upstream's responses and clients' headers."""
