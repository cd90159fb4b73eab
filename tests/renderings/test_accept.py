import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.renderings import MEDIA_TYPES, choose_rendering
from service.renderings.accept import quality, ranges

JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        # What each client sends
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),  # curl, fetch
        ("text/event-stream", SSE),  # EventSource
        ("application/json, text/event-stream", JSON),
        ("application/json, text/plain, */*", JSON),  # axios
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", JSON),  # a browser's address bar
        # One by one
        ("application/json", JSON),
        ("application/x-ndjson", NDJSON),
        ("text/plain", TEXT),
        ("text/plain; charset=utf-8", TEXT),
        ("TEXT/Event-Stream", SSE),
        # Wildcards
        ("text/*", SSE),
        ("application/*", JSON),
        ("image/*", None),
        ("image/*, */*;q=0.1", JSON),
        # Weights
        ("application/json;q=0.5, text/event-stream", SSE),
        ("application/json;q=0.5, text/event-stream;q=0.6", SSE),
        ("text/plain;q=0.001", TEXT),
        ("text/plain;q=0.9, application/x-ndjson;q=0.901", NDJSON),
        ("text/plain ; Q=0.9 , text/event-stream ; q=0.8", TEXT),
        ("text/event-stream;q=1.000, application/json;q=0.999", SSE),
        ("application/json;q=0, */*", NDJSON),
        ("application/json;q=0", None),
        ("*/*;q=0", None),
        ("application/json;q=0.0, application/x-ndjson;q=0.000", None),
        # The most specific range decides, wherever it stands
        ("*/*, application/json;q=0.1", NDJSON),
        ("application/json;q=0.1, */*", NDJSON),
        ("text/*;q=0.3, text/plain;q=0.7, */*;q=0.5", TEXT),
        ("text/*, text/event-stream;q=0", TEXT),
        ("application/*;q=0, */*;q=0.5", SSE),
        # Others
        ("text/html", None),
        ("application/xml, image/png", None),
        ("application/jsonl", None),
        # Malformed: what can be read of it counts
        (",,,", None),
        (";", None),
        ("json", None),
        ("*", None),
        ("*/json", None),
        ("text/plain;q=high", TEXT),
        ("text/plain;q=2", TEXT),
        ("text/plain;q=-1", TEXT),
        ("text/plain;q=", TEXT),
        ("text/plain;;", TEXT),
        (", text/plain,", TEXT),
        ("text/event-stream;q=0.5;q=0.1, text/plain;q=0.3", TEXT),
        ("text/plain;q=0.2, text/plain;q=0.9, application/json;q=0.5", JSON),
    ],
)
def test_the_accept_header_chooses_the_rendering(accept: str | None, chosen: str | None) -> None:
    rendering = choose_rendering(accept)
    assert (rendering.media_type if rendering else None) == chosen


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*MEDIA_TYPES, "*/*", "text/*", ";q=", "0.5", ",", ";"])).map("".join)
)
def test_no_header_is_an_exception_and_every_quality_is_between_0_and_1(accept: str) -> None:
    liked = ranges(accept)
    for media_type in MEDIA_TYPES:
        assert 0 <= quality(liked, media_type) <= 1
    rendering = choose_rendering(accept)
    if rendering and accept:
        assert quality(liked, rendering.media_type.partition(";")[0]) > 0


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_every_rendering_can_be_asked_for_by_its_media_type(media_type: str) -> None:
    rendering = choose_rendering(media_type)
    assert rendering is not None
    assert rendering.media_type.partition(";")[0] == media_type
