"""What the strategies go by, from a real ledger: how long answers were, and how long they took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from studio import ANTHROPIC, GEMINI, OPENAI, Studio

from promptkit._util.notices import show_notices
from promptkit.engine.calls import CallRequest
from promptkit.engine.context import Session
from promptkit.engine.target_order import LATENCY_KNOWN_S, TargetOrder
from promptkit.ledger.ledger import Ledger
from promptkit.ledger.records import AttemptEnd, AttemptStart, CallStart
from promptkit.providers.prices import Prices
from promptkit.routing.flow import Plan, PlannedTarget
from promptkit.types import AttemptState, Call, Cost, Params, Target, Usage

START_S = 1_800_000_000.0
HOPS = tuple(PlannedTarget(Target(*name.split("/"))) for name in (OPENAI, ANTHROPIC, GEMINI))
LUNA, HAIKU, FLASH = (planned.target for planned in HOPS)


@dataclass
class Desk:
    """A target_order over a ledger, with a clock and dice that the test holds."""

    ledger: Ledger
    session: Session
    now_s: float = START_S
    draw: float = 0.99

    def __post_init__(self) -> None:
        catalog = self.session.settings.catalog
        self.target_order = TargetOrder(catalog, self.ledger, Prices(), lambda: self.now_s, lambda: self.draw)
        template = self.session.template("ad/line")
        self.call = Call(template.render(template.bind({"brand": "Barly"})), Params(max_output_tokens=1_000))
        self.sources = template.sources()

    def order(
        self, strategy: str, targets: tuple[PlannedTarget, ...] = HOPS, call: Call | None = None
    ) -> list[Target]:
        work = CallRequest(1, call or self.call, Plan(targets, 6, 1.0, strategy=strategy), "default")
        return [planned.target for planned in self.target_order.plan(work).targets]

    async def answer(
        self,
        target: Target,
        seconds: float,
        output_tokens: int = 10,
        state: AttemptState = AttemptState.OK,
        digest: str | None = None,
    ) -> None:
        """Write an answer into the ledger, as if it had come now."""
        await self.ledger.calls.store_templates(self.sources)
        now_us, ids = int(self.now_s * 1e6), self.session.ids
        call = CallStart(ids(), digest or self.call.prompt.template_digest, "ad/line@1", "sha256:b", now_us)
        start = AttemptStart(ids(), call.id, 1, 1, target, 1, now_us)
        await self.ledger.calls.begin(start, (), call)
        answered = state is AttemptState.OK
        end = AttemptEnd(
            start.id,
            state,
            1,
            now_us,
            usage=Usage(50, output_tokens) if answered else None,
            cost=Cost(1, "test"),
            latency_us=int(seconds * 1e6),
        )
        await self.ledger.calls.finish(end)


@pytest.fixture
def desk(studio: Studio, tmp_path: Path) -> Iterator[Desk]:
    show_notices(studio.said.append)
    session = Session(studio.settings())
    with Ledger.open(tmp_path / "promptkit.db") as ledger:
        yield Desk(ledger, session)


async def test_latency_is_looked_up_every_few_seconds(desk: Desk) -> None:
    """An empty ledger leaves the route's order; what comes in counts from the next look on."""
    assert desk.order("fastest") == [LUNA, HAIKU, FLASH]
    for target, seconds in ((LUNA, 3.0), (HAIKU, 1.0), (FLASH, 2.0)):
        await desk.answer(target, seconds)
    assert desk.order("fastest") == [LUNA, HAIKU, FLASH]
    desk.now_s += 6
    assert desk.order("fastest") == [HAIKU, FLASH, LUNA]


async def test_a_latency_grows_old(desk: Desk) -> None:
    """After a quarter of an hour without an answer a target is unknown again: asked first now and then."""
    for target, seconds in ((LUNA, 1.0), (HAIKU, 2.0), (FLASH, 3.0)):
        await desk.answer(target, seconds)
    assert desk.order("fastest") == [LUNA, HAIKU, FLASH]
    desk.now_s += LATENCY_KNOWN_S + 60
    await desk.answer(HAIKU, 2.0)
    desk.now_s += 6
    assert desk.order("fastest") == [HAIKU, LUNA, FLASH]
    desk.draw = 0.09
    assert desk.order("fastest") == [FLASH, HAIKU, LUNA]


async def test_only_answers_and_lost_requests_say_how_fast_a_target_is(desk: Desk) -> None:
    """A target that fails at once isn't fast; one that let a request run into its time-out is slow."""
    await desk.answer(LUNA, 0.001, state=AttemptState.FAILED)
    await desk.answer(HAIKU, 60.0, state=AttemptState.UNKNOWN)
    await desk.answer(FLASH, 2.0)
    assert desk.order("fastest") == [FLASH, HAIKU, LUNA]


async def test_the_expected_cost_goes_by_the_skeletons_own_answers(desk: Desk) -> None:
    """A model that talks much is dear, whatever its rates; another template's answers say nothing."""
    pair = (PlannedTarget(HAIKU), PlannedTarget(FLASH))
    assert desk.order("cheapest", pair) == [FLASH, HAIKU]
    for _ in range(3):
        await desk.answer(FLASH, 1.0, output_tokens=900)
        await desk.answer(HAIKU, 1.0, output_tokens=5)
    desk.now_s += 31
    assert desk.order("cheapest", pair) == [HAIKU, FLASH]
    other = replace(desk.call, prompt=replace(desk.call.prompt, template_digest="1:sha256:" + "f" * 64))
    assert desk.order("cheapest", pair, other) == [FLASH, HAIKU]


async def test_what_has_no_price_is_not_taken_for_cheap(desk: Desk) -> None:
    """Where nobody knows a price, for the model or for the tier, the route's order stays, behind what is known."""
    unknown = PlannedTarget(Target("openrouter", "nobody/knows-this"))
    assert desk.order("cheapest", (unknown, PlannedTarget(HAIKU), PlannedTarget(FLASH))) == [
        FLASH,
        HAIKU,
        unknown.target,
    ]
    gold = replace(desk.call, tier="gold")
    assert desk.order("cheapest", call=gold) == [LUNA, HAIKU, FLASH]


async def test_weights_use_the_engines_dice(desk: Desk) -> None:
    """Each call draws; a single target and a plain route draw nothing and stay as they are."""
    targets = (PlannedTarget(LUNA, None, 1), PlannedTarget(HAIKU, None, 1))
    desk.draw = 0.75
    assert desk.order("weighted", targets) == [HAIKU, LUNA]
    desk.draw = 0.25
    assert desk.order("weighted", targets) == [LUNA, HAIKU]
    work = CallRequest(1, desk.call, Plan((PlannedTarget(LUNA),), 6, 1.0, strategy="weighted"), "default")
    assert desk.target_order.plan(work) is work.plan
    plain = CallRequest(1, desk.call, Plan(HOPS, 6, 1.0), "default")
    assert desk.target_order.plan(plain) is plain.plan


async def test_what_is_remembered_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates without end don't fill the memory of a long night."""
    monkeypatch.setattr("promptkit.engine.target_order._TEMPLATES", 2)
    for number in range(5):
        prompt = replace(desk.call.prompt, template_digest=f"1:sha256:{number:064d}")
        desk.order("cheapest", call=replace(desk.call, prompt=prompt))
    assert len(desk.target_order._usage) <= 2  # pyright: ignore[reportPrivateUsage]
