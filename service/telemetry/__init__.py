"""Metrics and traces. The rest of the service calls them by verbs. They import nothing of it."""
