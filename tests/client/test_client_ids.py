"""Ids of calls: `Reply.id` is what `promptkit show` takes; methods take that or the number."""

from __future__ import annotations

import pytest
from studio import REF, Studio

from promptkit.client.retakes import number_of
from promptkit.errors import UsageError
from promptkit.types.ids import read_id, show_id


def test_both_forms_of_an_id() -> None:
    """A text of 13 characters, or the number that the ledger stores."""
    number = 1_234_567_890_123
    assert number_of(number) == number_of(show_id(number)) == number_of(show_id(number).upper()) == number


@pytest.mark.parametrize("text", ["", "0", "not an id", "0" * 12 + "u"])
def test_a_text_that_is_not_an_id(text: str) -> None:
    """Such a text is refused with a remedy, before anything is sent."""
    with pytest.raises(UsageError, match="is not a call id") as caught:
        number_of(text)
    assert caught.value.remedy


async def test_the_id_of_a_reply(studio: Studio) -> None:
    """It finds the call in the ledger; a retake takes it as it is, or as a number."""
    async with studio.kit() as kit:
        first = await kit.run(REF, {"brand": "Barly"})
        retakes = [
            await kit.retake(call_id, "Shorter", variables={"brand": "Barly"})
            for call_id in (first.id, read_id(first.id))
        ]
        ledger = await kit.session.ledger()
        calls = [ledger.calls.get(read_id(reply.id)) for reply in retakes]
    assert [call.parent_id if call else None for call in calls] == [read_id(first.id)] * 2
