"""Replies to tests: what is asked, replayed, judged, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from studio import OPENAI, Studio

from promptkit.authoring.reply_expectations import ProjectFunctions
from promptkit.authoring.reply_tests import estimate_reply_tests, prepare_reply_tests, run_reply_tests
from promptkit.authoring.template_tests import TemplateTestResult, read_template_tests
from promptkit.engine.context import Session, load_settings
from promptkit.errors import VariableError

CASES = """
[[tests]]
name = "short"
variables = { brand = "Barly" }
[tests.reply]
max_characters = 100000
[[tests]]
name = "refused"
error = "missing"
[[tests]]
name = "no prompt"
[tests.reply]
max_words = 1
[[tests]]
name = "schema"
variables = { brand = "Lumé" }
[tests.reply]
schema = true
[[tests]]
name = "other schema"
variables = { brand = "Lumé" }
[tests.reply]
schema = { type = "object" }
"""


CHECKED = """+++
[variables.brand]
[checks]
required = ["unobtainium"]
+++
{% message "user" %}{{ brand }}{% endmessage %}
"""


async def run(
    studio: Studio, cases: str = CASES, ref: str = "ad/line@1", **changes: object
) -> tuple[list[TemplateTestResult], int]:
    """Test a template of the studio's at one target; the results, and how many calls were to be paid."""
    session = Session(load_settings(studio.folder / "promptkit.toml"))
    template = session.library.load(ref)
    (Path(template.file).parent / "tests.toml").write_text(cases)
    route = session.route(None, [OPENAI])
    try:
        asks = await prepare_reply_tests(
            session, route, [(template, case) for case in read_template_tests(template)]
        )
        asks = [replace(ask, test=replace(ask.test, **changes)) for ask in asks]
        calls, _ = estimate_reply_tests(session, route, asks)
        return await run_reply_tests(session, route, asks, ProjectFunctions(None)), calls
    finally:
        await session.aclose()


async def test_what_is_asked(studio: Studio) -> None:
    """Tests without expectations on a reply, or without a prompt, ask nothing; one prompt is asked once."""
    results, calls = await run(studio)
    assert calls == 2
    assert [(one.name, one.problems) for one in results] == [
        ("short", ()),
        ("schema", ("schema = true, but the template has no [output]",)),
        ("other schema", ("the reply is not JSON: Expecting value: line 1 column 1 (char 0)",)),
    ]
    assert len(studio.sim.requests()) == 2
    assert sum(one.cost_pico or 0 for one in results) == studio.sim.simulation.bill.total_pico


async def test_a_reply_keeps_to_the_skeletons_own_checks(studio: Studio) -> None:
    """What a call would flag fails a test, whatever the test itself expects; a replayed reply, too."""
    studio.publish(CHECKED, "ad/checked")
    case = '[[tests]]\nname = "a"\nvariables = { brand = "Barly" }\n[tests.reply]\nmax_words = 999\n'
    for calls in (1, 0):
        results, asked = await run(studio, case, ref="ad/checked@1")
        assert ([one.problems for one in results], asked) == ([("doesn't say 'unobtainium'",)], calls)


async def test_a_cut_reply_fails(studio: Studio) -> None:
    """A reply that hit its limit is a failure, and replayed as one."""
    studio.sim.script(["reply.truncated"])
    results, _ = await run(studio)
    assert results[0].problems == ("the reply was cut at its output limit",)
    studio.sim.script([])
    results, calls = await run(studio)
    assert results[0].problems == ("the reply was cut at its output limit",)
    assert calls == 0


async def test_a_failed_call_is_no_reply(studio: Studio) -> None:
    """What failed is asked again."""
    studio.sim.script(["openai.bad_request"])
    results, calls = await run(studio)
    assert calls == 2
    assert all(one.problems for one in results)
    studio.sim.script([])
    results, calls = await run(studio)
    assert calls == 2
    assert not results[0].problems


async def test_a_text_that_is_not_kept_is_asked_again(studio: Studio) -> None:
    """Where `[storage]` keeps no replies, there is nothing to replay."""
    studio.configure(tables='[storage]\nreplies = "hash"\n')
    assert (await run(studio))[1] == 2
    assert (await run(studio))[1] == 2


async def test_what_stops_everything_is_raised(studio: Studio) -> None:
    """An error that is no answer to a test leaves as itself, not as a group."""
    with pytest.raises(VariableError):
        await run(studio, variables={})
