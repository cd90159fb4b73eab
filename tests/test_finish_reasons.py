"""The table of finish reasons."""

import pytest

from service.finish_reasons import KNOWN, Meaning, meaning_of
from tests.vectors import load


def test_the_vector_is_the_table() -> None:
    vector = load("finish-reasons")
    assert {word: Meaning(meaning) for meaning, words in vector.items() for word in words} == KNOWN


def test_a_reason_has_one_meaning_and_is_known_in_lower_case() -> None:
    assert sum(map(len, load("finish-reasons").values())) == len(KNOWN)
    assert all(word == word.lower() for word in KNOWN)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("stop", Meaning.FINISHED),
        ("STOP", Meaning.FINISHED),
        ("", Meaning.FINISHED),
        ("MAX_TOKENS", Meaning.LENGTH),
        ("model_context_window_exceeded", Meaning.LENGTH),
        ("time_limit", Meaning.LENGTH),
        ("SAFETY", Meaning.FILTERED),
        ("insufficient_system_resource", Meaning.FAILED),
        ("engine_overloaded", Meaning.FAILED),
        ("resource-exhausted", Meaning.FAILED),
        ("OTHER", Meaning.UNKNOWN),
        ("paused_for_tea", Meaning.UNKNOWN),
    ],
)
def test_a_reason_is_looked_up_in_either_case(reason: str, meaning: Meaning) -> None:
    assert meaning_of(reason) is meaning
