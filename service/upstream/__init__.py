"""The client of the OpenAI-compatible API: sends requests and decodes streams."""
