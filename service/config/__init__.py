"""The settings: read once, from the environment and from mounted files. They import nothing else of the service."""

from service.config.settings import Settings, SettingsError, read_settings, variable_of

__all__ = ["Settings", "SettingsError", "read_settings", "variable_of"]
