"""What is told of an exception: no key, no path of a URL."""

from __future__ import annotations

import pytest

from promptkit.providers.transport import explain


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("", "OSError"),
        ("broken\n  pipe", "OSError: broken pipe"),
        ("key sk-1 refused", "OSError: key [key] refused"),
        ("url='https://u:p@host.example:1/v1?key=x' lost", "OSError: url='https://host.example:1' lost"),
        ("exceeded with url: /v1?key=x (refused)", "OSError: exceeded (refused)"),
        ("GET https://host.example/a/b?c=d#e failed", "OSError: GET https://host.example failed"),
    ],
)
def test_an_exception_is_told_without_secrets(told: str, expected: str) -> None:
    assert explain(OSError(told), key="sk-1") == expected


def test_an_endless_message_is_cut() -> None:
    assert len(explain(OSError("x" * 5000), key=None)) == 300
