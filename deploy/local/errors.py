"""The one error of a local run."""


class CannotRun(Exception):
    """A sentence for the person at the terminal: what is wrong, and what to do."""
