"""Values derived from the table of renderings."""

import pytest

from service.events import Attempt, Delta, Run
from service.renderings import DOORS, MEDIA_TYPES, NAMES, RENDERINGS, SELF_DELIMITING, Rendering
from service.routes.openapi import streamed
from tests.strategies import ANSWER


def test_the_table_holds_what_accept_the_metrics_and_a_reader_over_http_1_0_are_offered() -> None:
    assert MEDIA_TYPES == ("application/json", "application/x-ndjson", "text/event-stream", "text/plain")
    assert SELF_DELIMITING == ("application/json", "application/x-ndjson", "text/event-stream")
    assert {"ndjson", "sse", "text", *DOORS} == NAMES


def test_every_rendering_is_described_by_its_media_type() -> None:
    assert tuple(streamed()[200]["content"]) == MEDIA_TYPES


@pytest.mark.parametrize("rendering", RENDERINGS.values(), ids=MEDIA_TYPES)
def test_a_rendering_that_remembers_nothing_needs_no_history_and_ends_no_body(rendering: Rendering) -> None:
    encoder = rendering.encoder(ANSWER)
    assert not rendering.from_start
    assert not encoder.finished
    assert rendering.closing == b""


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson", "text/plain"])
def test_followers_share_an_encoder_that_keeps_nothing(media_type: str) -> None:
    rendering = RENDERINGS[media_type]
    assert rendering.encoder(ANSWER) is rendering.encoder(ANSWER[::-1])


@pytest.mark.parametrize("rendering", RENDERINGS.values(), ids=lambda each: each.media_type)
@pytest.mark.parametrize("run", [Delta(2, run=Run("private", "http://private")), Delta(2, attempt=Attempt(1, 1))])
def test_no_rendering_shows_an_upstreams_run_or_an_attempt(rendering: Rendering, run: Delta) -> None:
    encoder = rendering.encoder("0" * 32)
    both = rendering.encoder("0" * 32)
    assert encoder.encode([run]) == b""
    assert both.encode([run, Delta(3, text="a")]) == encoder.encode([Delta(3, text="a")])
