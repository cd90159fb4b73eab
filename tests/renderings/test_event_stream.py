"""The other tests' reader of event streams, with the standard's own examples."""

from tests.renderings.event_stream import Message, parse


def test_the_standards_examples_are_read_as_it_says() -> None:
    assert parse(b"data: YHOO\ndata: +2\ndata: 10\n\n").messages == [Message("message", "YHOO\n+2\n10", "")]
    stream = parse(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event")
    assert stream.messages == [Message("message", "first event", "1"), Message("message", "second event", "")]
    assert stream.comments == 1
    assert [message.data for message in parse(b"data\n\ndata\ndata\n\ndata:").messages] == ["", "\n"]
    assert [message.data for message in parse(b"data:test\n\ndata: test\n\n").messages] == ["test", "test"]
    assert parse(b"event: add\rdata: 73857293\r\r").messages == [Message("add", "73857293", "")]
