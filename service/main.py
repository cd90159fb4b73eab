"""The application, from the environment. The only module whose import has effects."""

from service.app import create_app
from service.config import SettingsError, read_settings
from service.logging import configure_logging

try:
    settings = read_settings()
except SettingsError as error:
    raise SystemExit(f"Folyam cannot start: {error}") from None
configure_logging()
app = create_app(settings)
