"""The error of a local run."""


class CannotRun(Exception):
    """The run cannot start or go on. The text is for the terminal: the fault and its remedy."""
