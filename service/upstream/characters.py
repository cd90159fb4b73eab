"""Characters whose two halves came apart: some servers split them between their escapes. Pure."""


def is_whole(text: str) -> bool:
    """Return whether the text has no lone half."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def in_whole_characters(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates as U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def without_half(text: str) -> tuple[str, str]:
    """Return the text in whole characters, and the high surrogate that it ended with: its other half may come."""
    half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    return in_whole_characters(text.removesuffix(half)), half
