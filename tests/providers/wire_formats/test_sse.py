"""Server-sent events: any cut of the bytes gives the same events."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptkit.providers.adapter import SseEvent, SseParser


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.end()


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\n", [SseEvent("message", b"a")]),
        (b"data:a\r\n\r\n", [SseEvent("message", b"a")]),
        (b"data: a\r\rdata: b\r\r", [SseEvent("message", b"a"), SseEvent("message", b"b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [SseEvent("message", b"a")]),
        (b": comment\n\ndata: a\n\n", [SseEvent("message", b"a")]),
        (b"event: ping\ndata: a\nid: 7\nretry: 10\n\n", [SseEvent("ping", b"a")]),
        (b"data: a\ndata:\ndata:  b\n\n", [SseEvent("message", b"a\n\n b")]),
        (b"event: ping\n\ndata: a\n\n", [SseEvent("message", b"a")]),
        (b"data: a", [SseEvent("message", b"a")]),
        (b"data: \xe2\x80\xa8\n\n", [SseEvent("message", b"\xe2\x80\xa8")]),
        (b"event: \xff\ndata: a\n\n", [SseEvent("\ufffd", b"a")]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_the_bytes_of_a_stream_become_events(raw: bytes, events: list[SseEvent]) -> None:
    """Line ends, comments, several lines of data, a byte order mark, no closing blank line."""
    assert parse(raw) == events


def test_lines_of_no_event_are_kept_apart() -> None:
    """A host that writes plain JSON where events were asked for is still heard."""
    parser = SseParser()
    assert parser.feed(b'{\n  "error": {"code": 503}\n}\r\n') == []
    assert parser.end() == []
    assert json.loads(parser.stray) == {"error": {"code": 503}}


lines = st.sampled_from(
    [
        b"data: caf\xc3\xa9 \xf0\x9f\x98\x80",
        b"data:x",
        b"event: ping",
        b": note",
        b"id: 1",
        b"",
        b'{"a": 1}',
        b"data",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, ends).map(b"".join), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(raw=streams, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_of_the_bytes_gives_the_same_events(raw: bytes, cuts: list[int]) -> None:
    """Pieces may end inside a character, between CR and LF, anywhere, and may be empty."""
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in itertools.pairwise(places)]
    assert parse(*pieces) == parse(raw)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=30), max_size=6), end=ends, piece=st.integers(1, 9))
def test_what_is_written_is_read(texts: list[str], end: bytes, piece: int) -> None:
    """Any text survives as JSON in events, whichever line ends the host uses."""
    raw = b"".join(b"data: " + json.dumps(text).encode() + end + end for text in texts)
    events = parse(*(raw[start : start + piece] for start in range(0, len(raw), piece)))
    assert [json.loads(event.data) for event in events] == texts
