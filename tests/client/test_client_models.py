"""`output=Model`: a reply as an instance of a Pydantic model, from both faces."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Final, assert_type

import pytest
from pydantic import BaseModel, Field, field_validator
from studio import ALL, REF, Studio, assert_books_agree, brands

from promptkit import PromptKit
from promptkit.errors import AllTargetsFailed, JobConflict, UsageError
from promptkit.types import Fault, Json, Reply, RowResult


class Scene(BaseModel):
    """A scene."""

    place: str
    seconds: Annotated[int, Field(ge=0, le=100)] = 5


class Script(BaseModel):
    """A script; its note is optional, and its title has a rule that no schema says."""

    title: str = Field(description="A short title", max_length=200)
    scenes: list[Scene]
    note: str | None = None

    @field_validator("title")
    @classmethod
    def not_loud(cls, title: str) -> str:
        if title.isupper():
            raise ValueError("a title in capitals")
        return title


GOOD: Final[Any] = {"title": "Dawn", "scenes": [{"place": "kitchen", "seconds": 3}], "note": None}


def says(value: object, **more: Any) -> dict[str, Any]:
    return {"fault": "reply.says", "message": value if isinstance(value, str) else json.dumps(value), **more}


@pytest.mark.parametrize("target", ALL)
async def test_every_provider_fills_a_model(studio: Studio, target: str) -> None:
    """The model's schema goes out in the provider's own form, and `parsed` is an instance."""
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"}, targets=[target], output=Script)
        assert_type(reply, Reply[Script])
        assert isinstance(reply.parsed, Script)
        assert len(reply.attempts) == 1
        plain = await kit.run(REF, {"brand": "Barly"}, targets=[target])
        assert_type(plain, Reply[Json])
        assert plain.parsed is None
        assert_books_agree(await kit.session.ledger(), studio)


async def test_a_models_own_rules_are_asked_for_too(studio: Studio) -> None:
    """What only the model refuses is repaired like what its schema does."""
    studio.sim.script([says({**GOOD, "title": "DAWN"}, times=1), says(GOOD)])
    async with studio.kit() as kit:
        reply = await kit.run(REF, {"brand": "Barly"}, output=Script)
        assert reply.parsed == Script(**GOOD)
        assert [one.fault for one in reply.attempts] == [Fault.INVALID_OUTPUT, None]
        assert "$.title: Value error, a title in capitals" in reply.attempts[0].detail
        studio.sim.script([says({**GOOD, "scenes": [{"place": "x", "seconds": 101}]})])
        with pytest.raises(AllTargetsFailed, match=r"\$\.scenes\[0\]\.seconds: 101 is greater than"):
            await kit.run(REF, {"brand": "Barly"}, output=Script)


async def test_a_job_gives_instances_now_and_from_the_ledger(studio: Studio) -> None:
    """The job pins the model's schema: its rows are instances, also when they come from the ledger, and
    another model under the same name is refused."""
    studio.sim.script([says(GOOD)])
    await asyncio.to_thread(_from_a_job, studio)
    assert studio.asked() == 3


def _from_a_job(studio: Studio) -> None:
    with PromptKit(studio.settings()) as kit:
        for _ in range(2):
            job = kit.batch(REF, brands(2), job="night", output=Script)
            for result in job:
                assert_type(result, RowResult[Script])
                assert result.parsed == Script(**GOOD)
        assert [result.parsed for result in kit.batch(REF, brands(2), job="night")] == [GOOD, GOOD]
        with pytest.raises(JobConflict, match="began with another output schema"):
            list(kit.batch(REF, brands(2), job="night", output=Scene))
        reply = kit.run(REF, {"brand": "Barly"}, output=Script)
        assert_type(reply, Reply[Script])


class Broken(BaseModel):
    """A model whose validator has a slip of its author's."""

    title: str

    @field_validator("title")
    @classmethod
    def third_word(cls, title: str) -> str:
        return title.split()[99]


async def test_a_validator_that_breaks_leaves_the_books_whole(studio: Studio) -> None:
    """An IndexError of the caller's own is a reply that doesn't fit: paid, settled, and told."""
    async with studio.kit() as kit:
        with pytest.raises(AllTargetsFailed, match="a validator of Broken broke on it: IndexError"):
            await kit.run(REF, brands(1)[0], targets=ALL[:1], output=Broken)
        assert_books_agree(await kit.session.ledger(), studio)


async def test_what_is_no_model_is_refused(studio: Studio) -> None:
    """Before anything is sent."""
    odd = type("Odd", (BaseModel,), {"__annotations__": {"call": "__import__('typing').Callable[[], int]"}})
    async with studio.kit() as kit:
        with pytest.raises(UsageError, match="is no Pydantic model"):
            await kit.run(REF, {"brand": "Barly"}, output=int)
        with pytest.raises(UsageError, match="JSON Schema can't express the model Odd"):
            await kit.run(REF, {"brand": "Barly"}, output=odd)
    assert studio.asked() == 0
