"""`AsyncPromptKit`: many calls at once, notices, and what it opens when."""

from __future__ import annotations

import asyncio
import logging

import pytest
from studio import ALL, REF, Studio, assert_books_agree, attempts_of, brands, run_all

import promptkit
from promptkit import AsyncPromptKit
from promptkit.config.loading import load
from promptkit.errors import ConfigError, LedgerError
from promptkit.types import Status
from promptkit.types.ids import read_id


async def test_two_hundred_calls_at_once(studio: Studio) -> None:
    """A gather of 200 calls over three providers: each answered, each in the books, to the pico-dollar."""
    async with studio.kit() as kit:
        replies = await asyncio.gather(
            *(kit.run(REF, {"brand": f"B{n}"}, targets=[ALL[n % 3]]) for n in range(200))
        )
        assert {reply.status for reply in replies} == {Status.OK}
        assert [str(reply.target) for reply in replies] == [ALL[n % 3] for n in range(200)]
        ledger = await kit.session.ledger()
        assert_books_agree(ledger, studio)
        assert ledger.reports.spent_total().known_pico == sum(reply.cost_pico or 0 for reply in replies)


async def test_nothing_is_opened_before_it_is_needed(studio: Studio) -> None:
    """Making a kit, rendering and setting up a job touch neither the network nor the database."""
    (studio.folder / "promptkit.db").unlink()
    async with studio.kit() as kit:
        await kit.render(REF, {"brand": "Barly"})
        kit.batch(REF, brands(3), job="night")
    assert not (studio.folder / "promptkit.db").exists()
    assert studio.asked() == 0


async def test_a_closed_kit_may_be_used_again(studio: Studio) -> None:
    """After `aclose` the same kit opens again what it needs, on whatever loop it then runs."""
    kit = AsyncPromptKit(studio.settings())
    for _ in range(2):
        await asyncio.gather(*(kit.run(REF, {"brand": f"{n}"}) for n in range(5)))
        await kit.aclose()
        await kit.aclose()
    assert studio.asked() == 10


async def test_notices_go_to_the_log(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    """A kit's notices go to the logger `promptkit` at level INFO, each once."""
    caplog.set_level(logging.INFO, logger="promptkit")
    (studio.folder / ".env").write_text("GEMINI_API_KEY=AIzaCanary-gemini-0003\n")
    async with AsyncPromptKit(studio.settings()) as kit:
        for _ in range(3):
            await kit.run(REF, {"brand": "Barly"})
    told = [record for record in caplog.records if record.name == "promptkit"]
    assert [record.levelno for record in told] == [logging.INFO] * 2


async def test_a_config_file_by_its_path(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit takes a path, or searches as the command does; a file that isn't there is told."""
    monkeypatch.chdir(studio.folder)
    for config in (studio.folder / "promptkit.toml", str(studio.folder / "promptkit.toml"), None):
        async with AsyncPromptKit(config) as kit:
            assert kit.session.settings.root == studio.folder
            assert (await kit.run(REF, {"brand": "Barly"})).text
    with pytest.raises(ConfigError):
        AsyncPromptKit(studio.folder / "none.toml")


async def test_a_database_that_cannot_be_opened(studio: Studio) -> None:
    """A database that is none is said with its file, and nothing is sent; mended, the kit works."""
    database = studio.folder / "promptkit.db"
    good = database.read_bytes()
    database.write_bytes(b"not a database" * 100)
    async with studio.kit() as kit:
        with pytest.raises(LedgerError, match=r"promptkit\.db"):
            await kit.run(REF, {"brand": "Barly"})
        assert studio.asked() == 0
        database.write_bytes(good)
        assert (await kit.run(REF, {"brand": "Barly"})).text


async def test_the_users_own_data_folder_is_made(
    studio: Studio, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without a config file the database lies in the user's data folder, which may be new."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    env = {
        "GEMINI_API_KEY": "AIzaCanary-gemini-0003",
        "GOOGLE_GEMINI_BASE_URL": studio.sim.base_url("gemini"),
    }
    settings = load(env=env, cwd=work, home=home)
    async with AsyncPromptKit(settings) as kit:
        reply = await kit.run("ugc/hooks", {"brand": "B", "product": "p", "audience": "a"}, targets=[ALL[2]])
        assert reply.text
    assert settings.database_path.exists()
    assert settings.database_path.is_relative_to(home)
    assert settings.database_path.parent.stat().st_mode & 0o077 == 0


async def test_a_parent_call_is_recorded(studio: Studio) -> None:
    """A call may name the one it goes back to, and the deliverable that it is for."""
    async with studio.kit() as kit:
        first = await kit.run(REF, {"brand": "Barly"})
        again = await kit.run(REF, {"brand": "Barly"}, parent_id=first.id, tags={"deliverable": "d1"})
        call = (await kit.session.ledger()).calls.get(read_id(again.id))
        assert call is not None
        assert (call.parent_id, call.deliverable, call.tags) == (
            read_id(first.id),
            "d1",
            {"deliverable": "d1"},
        )


async def test_a_template_is_kept_once(studio: Studio) -> None:
    """The source of a template goes into the ledger before its first call, and only once."""
    async with studio.kit() as kit:
        await asyncio.gather(*(kit.run(REF, {"brand": f"{n}"}) for n in range(5)))
        await run_all(kit.batch(REF, brands(2), job="night"))
        ledger = await kit.session.ledger()
        digests = {
            call.template_digest for one in ledger.calls.search(100) if (call := ledger.calls.get(one.id))
        }
        assert len(digests) == 1
        assert ledger.calls.stored_source(digests.pop()) is not None
        assert len(attempts_of(ledger)) == 7


def test_the_names_of_the_package() -> None:
    """`import promptkit` has the promised names, each loaded when it is asked for; another is an error."""
    for name in promptkit.__all__:
        assert getattr(promptkit, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = promptkit.nothing
