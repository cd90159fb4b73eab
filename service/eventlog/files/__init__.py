"""The event log on one machine's disk: a directory with a file for each answer."""
