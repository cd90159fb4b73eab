"""Folyam: carries a language model's answer to a browser and does not lose it."""

__version__ = "0.1.0"
