"""The documented user of a Valkey, from the file that operators are given."""

from pathlib import Path

FILE = Path(__file__).parents[3] / "deploy" / "valkey" / "users.acl"
USER = "folyam"


def _rights() -> list[str]:
    """Return the rules of the user in the documented file, without its state and its password."""
    [line] = [line for line in FILE.read_text().splitlines() if line.startswith(f"user {USER} ")]
    _, _, state, password, *rules = line.split()
    assert (state, password) == ("on", ">PASSWORD")
    return rules


RIGHTS = _rights()
"""The fewest rights with which the log works."""
