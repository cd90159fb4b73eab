"""The way to the model: asks an OpenAI-compatible API and decodes what it streams."""
