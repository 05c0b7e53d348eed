"""Rules by tag and template, and the plans that they leave."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from promptkit._util import toml
from promptkit.config.provider_files import read_provider
from promptkit.routing.catalog import Catalog
from promptkit.routing.plan import FREE, NO_RULES, Rule, Rules, Ruling, make_plan
from promptkit.types import OnContent, Provider, Route, Target

LUNA, TERRA = Target("openai", "luna"), Target("openai", "terra")
HAIKU, SMOL = Target("anthropic", "haiku"), Target("local", "smol")
FAMILY = Rule(("client", "familyco"), allow=("anthropic",), route="sensitive")
OFFER = Rule(("template", "ugc/offer"), deny=("openai/terra",), route="long")
SHY = Rule(("client", "shy"), deny=("local", "openai"))
RULES = Rules((OFFER, FAMILY, SHY))


@pytest.mark.parametrize(
    ("template", "tags", "rules"),
    [
        ("ugc/offer", {"client": "familyco"}, (OFFER, FAMILY)),
        ("ugc/hooks", {"client": "familyco", "deliverable": "d1"}, (FAMILY,)),
        ("ugc/hooks", {"client": "family"}, ()),
        ("ugc/offers", {}, ()),
        ("ugc/hooks", {"template": "ugc/offer"}, ()),  # the template says which it is, not a tag
        ("ugc/offer", {"template": "ugc/hooks"}, (OFFER,)),
    ],
)
def test_a_rule_holds_by_tag_or_skeleton(
    template: str, tags: Mapping[str, str], rules: tuple[Rule, ...]
) -> None:
    """Every rule whose tag or template is the call's holds, in the file's order."""
    assert RULES.ruling(template, tags) == Ruling(rules)


def test_without_rules_all_is_free() -> None:
    """No rule: no route, nothing forbidden."""
    assert NO_RULES.ruling("ugc/offer", {"client": "familyco"}) is FREE
    assert not NO_RULES
    assert RULES
    assert FREE.route is None
    assert FREE.forbids(LUNA) is None


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (Rule(("a", "b"), allow=("anthropic",)), {HAIKU}),
        (Rule(("a", "b"), allow=("openai/luna", "local")), {LUNA, SMOL}),
        (Rule(("a", "b"), deny=("openai",)), {HAIKU, SMOL}),
        (Rule(("a", "b"), deny=("openai/luna",)), {TERRA, HAIKU, SMOL}),
        (Rule(("a", "b"), allow=("openai",), deny=("openai/luna",)), {TERRA}),
        (Rule(("a", "b"), route="x"), {LUNA, TERRA, HAIKU, SMOL}),
    ],
)
def test_allow_and_deny(rule: Rule, allowed: set[Target]) -> None:
    """A provider stands for all its models; what is denied stays so, whatever is allowed."""
    assert {target for target in (LUNA, TERRA, HAIKU, SMOL) if not rule.forbids(target)} == allowed


def test_all_rules_must_allow_and_the_first_route_counts() -> None:
    """Where several hold, each one forbids for all of them."""
    ruling = RULES.ruling("ugc/offer", {"client": "familyco"})
    assert ruling.route == "long"
    assert [ruling.forbids(target) for target in (LUNA, TERRA, HAIKU)] == [FAMILY, OFFER, None]
    assert RULES.routes == {"long", "sensitive"}
    assert str(FAMILY) == '[rules."client=familyco"]'


# --------------------------------------------------------------------------------- plans


def provider(name: str, *models: str) -> Provider:
    listed = "".join(f'[[models]]\nid = "{model}"\ncontext_window = 1000\n' for model in models)
    head = 'adapter = "openai"\nbase_url = "https://a.example"\n'
    return read_provider(name, toml.parse(head + listed, file=name))


CATALOG = Catalog(
    {
        "openai": provider("openai", "luna", "terra"),
        "anthropic": provider("anthropic", "haiku"),
        "local": provider("local", "smol"),
    }
)
ROUTE = Route("r", (LUNA, HAIKU, TERRA), "weighted", 5, 60.0, SMOL, OnContent.NEXT, weights=(3, 2, 1))


def usable(provider: Provider) -> str | None:
    return "no key" if provider.name == "nokey" else None


def test_a_plan_of_the_whole_route() -> None:
    """Without rules every target that has a key is a hop, with its window and weight."""
    plan, skipped = make_plan(ROUTE, CATALOG, usable)
    assert [(planned.target, planned.window, planned.weight) for planned in plan.targets] == [
        (LUNA, 1000, 3),
        (HAIKU, 1000, 2),
        (TERRA, 1000, 1),
    ]
    assert (plan.attempts, plan.max_wait_s, plan.last_resort, plan.strategy) == (5, 60.0, SMOL, "weighted")
    assert (plan.on_content, plan.resend_unknown, skipped) == (OnContent.NEXT, True, ())


def test_what_a_rule_forbids_is_in_no_place_of_the_plan() -> None:
    """Forbidden targets are neither hops, to be fallen back on, nor the last resort; weights stay with theirs."""
    plan, skipped = make_plan(ROUTE, CATALOG, usable, ruling=Ruling((FAMILY,)), resend_unknown=False)
    assert [(planned.target, planned.weight) for planned in plan.targets] == [(HAIKU, 2)]
    assert plan.last_resort is None
    assert not plan.resend_unknown
    assert [(one.target, one.rule) for one in skipped] == [(LUNA, FAMILY), (TERRA, FAMILY), (SMOL, FAMILY)]
    assert skipped[0].why == '[rules."client=familyco"] forbids it'


def test_what_has_no_key_is_skipped_with_the_reason() -> None:
    """A target that can't be asked is left out, a last resort too; a target named twice is one hop."""
    route = Route("r", (LUNA, HAIKU, LUNA), last_resort=SMOL)
    plan, skipped = make_plan(
        route, CATALOG, lambda provider: None if provider.name == "openai" else f"{provider.name} has no key"
    )
    assert [planned.target for planned in plan.targets] == [LUNA]
    assert [(one.target, one.why, one.rule) for one in skipped] == [
        (HAIKU, "anthropic has no key", None),
        (SMOL, "local has no key", None),
    ]
    assert plan.last_resort is None
