"""Metrics and traces. The rest of the service calls them by verbs; they know nothing of it."""
