"""`python -m service.config` writes the README's table of settings."""

from service.config.settings import table

if __name__ == "__main__":
    print(table())  # noqa: T201 (the output)
