"""The rules, row by row: what each finds, where, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

import pytest
from lint_helpers import LEVELS, THINKS, found, template, user, world

from promptkit.authoring.lint import RULES, Severity, from_error, lint
from promptkit.authoring.lint_context import LintContext
from promptkit.errors import TemplateError
from promptkit.templates.source import read_source
from promptkit.types import Model, OnReject, PriceOverride, Reasoning

LONG = "Say what it does and show it. " * 200
"""About 1,550 tokens."""

RING = """
type = "object"
properties.a = { "$ref" = "#/$defs/n" }
"$defs".n = { properties.next = { "$ref" = "#/$defs/m" } }
"$defs".m = { anyOf = [{ "$ref" = "#/$defs/n" }] }
"""
"""A schema that contains itself, by two steps."""


def lines(text: str, code: str, includes: Mapping[str, str] | None = None) -> list[int | None]:
    return [one.line for one in found(text, code, includes=includes)]


# ------------------------------------------------------------------------- PK1: names


def test_a_name_set_in_one_branch_is_undeclared_in_the_other() -> None:
    """What only one way sets is found where it is read, with file and line."""
    text = user('{% if brand %}\n{% set x = "a" %}\n{% endif %}\n{{ x }}', "[variables.brand]")
    (one,) = found(text, "PK101")
    assert (one.line, one.severity, one.file) == (8, Severity.ERROR, "a/b/draft.jinja")


def test_an_unknown_field_is_undeclared() -> None:
    """A field that the items of a declared list don't have is found by its whole path, through a loop."""
    front = '[variables.shots]\ntype = "list"\n[variables.shots.items]\ntype = "object"\nfields.place = {}'
    (one,) = found(user("{% for shot in shots %}\n{{ shot.plaice }}\n{% endfor %}", front), "PK101")
    assert (one.message, one.line) == ("shots.*.plaice is not a declared field", 10)


def test_a_partial_needs_what_its_includers_declare() -> None:
    """A partial's variables are undeclared by design."""
    assert not found("Brand: {{ brand }}\n", "PK101")


def test_unused_variables_are_found_at_their_declaration() -> None:
    """Each at its own line; one that only an include reads is used."""
    front = "[variables.brand]\n[variables.tone]\n[variables.left]"
    text = user('{{ brand }}\n{% include "shared/tone@1" %}', front)
    assert lines(text, "PK102", {"shared/tone@1": "{{ tone }}"}) == [4]


def test_an_inherited_variable_is_found_where_it_is_declared() -> None:
    """Nothing reads it; the partial alone can't know that, and keeps to its own descriptions."""
    voice = "+++\n[variables.brand]\n[variables.tone]\n+++\n{{ brand }}\n"
    (one,) = found(user('{% include "voice@1" %}'), "PK102", includes={"voice@1": voice})
    assert one.message == "the variable tone is declared in voice@draft and never used"
    assert (one.file, one.line) == ("voice@1/draft.jinja", 3)
    assert not found(voice, "PK102")
    assert not found(user('{% include "voice@1" %}'), "PK105", includes={"voice@1": voice})
    assert len(found(voice, "PK105")) == 2


def test_a_variable_that_only_checks_read_is_used() -> None:
    """`banned_from`, `required_from` and `language_from` read variables."""
    front = (
        '[variables.avoid]\ntype = "list"\n[variables.say]\ntype = "list"\n[variables.lang]\n[checks]\n'
        'banned_from = ["avoid"]\nrequired_from = ["say"]\nlanguage_from = "lang"'
    )
    assert not found(user("Write.", front), "PK102")


def test_shadowing_is_found_in_includes_too() -> None:
    """A loop that takes a variable's name is found in the file where it stands."""
    text = user('{{ brand }}{% include "shared/x@1" %}', "[variables.brand]")
    (one,) = found(text, "PK103", includes={"shared/x@1": "\n{% for brand in [1] %}{{ brand }}{% endfor %}"})
    assert (one.file, one.line) == ("shared/x@1/draft.jinja", 2)


def test_descriptions_are_asked_for_where_they_would_stand() -> None:
    """A blank description is none; without front matter the finding stands on line 1."""
    assert lines(user("x", 'description = " "'), "PK104") == [2]
    assert lines(user("x"), "PK104") == [1]
    assert lines(user("{{ a }}", '[variables.a]\ndescription = "A"\n[variables.b]'), "PK105") == [4]
    assert not found(user("x", 'description = "x"'), "PK104")


# -------------------------------------------------------------------------- PK2: text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a\n\nb", []),
        ("a\n\n\nb", [3]),
        ("a\n \t\n\nb\n\n\n\nc", [3, 6]),
        ("\n\n\na", []),
        ("a\n\n\n", []),
        ("{{ 1 }}\n\n\na", [3]),
        ("{% if 1 %}\n\n\n{% endif %}\na", []),
    ],
)
def test_blank_lines_count_inside_a_message(body: str, expected: list[int]) -> None:
    """Two blank lines are too many, but for the edges of a message, where they are stripped."""
    assert lines(user(body), "PK201") == expected


def test_text_between_messages_is_nobodys() -> None:
    """Blank lines between messages are never sent."""
    assert not found(f"{user('a')}\n\n\n  \n{user('b')}", "PK201")
    assert not found(f"{user('a')}\n\n\n  \n{user('b')}", "PK202")


def test_a_partial_is_text_from_its_first_line() -> None:
    """In a partial, all is text."""
    assert lines("a\n\n\nb \nc", "PK201") == [2]
    assert lines("a\n\n\nb \nc", "PK202") == [4]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a \nb\t\n", [2, 3]),
        ("a\n   \nb", [3]),
        ("a {{ 1 }}\n", []),
        ("a {% if 1 %}\nb\n{% endif %}\n", []),
    ],
)
def test_trailing_blanks(body: str, expected: list[int]) -> None:
    """Blanks before a newline are found; before a tag they part words."""
    assert lines(user(body), "PK202") == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a {% if 1 %}b{% endif %}\nc", [2]),
        ("{% if 1 %}\na\n{% endif %}\nc", []),
        ("a {% if 1 %}b{% endif +%}\nc", []),
        ("a {% if 1 %}b{% endif -%}\nc", []),
        ("a {% if 1 %}b{% endif %}\n\nc", []),
        ("a {# note #}\nb", [2]),
        ("a {# note #}\n{{ 1 }}", [2]),
        ("a {% if 1 %}b{% endif %}\n{% if 1 %}c{% endif %}", [2]),
        ("a {% if 1 %}b{% endif %}\n", []),
        ("{{ 1 }}{% if 1 %}\nb\n{% endif %}", [2]),
        ("{% if 1 %}\na: {{ 1 }}{% else %}\nb\n{% endif %}\nc", [5]),
        ("{% if 1 %}\na: {{ 1 }}{% elif 2 %}\nb\n{% else %}\nd\n{% endif %}\nc", [7]),
        ("{% for x in [1, 2] %}\n- {{ x }}\n{% endfor %}\nb", []),
        ("{% for x in [1, 2] %}{{ x }}, {% endfor %}\nb", [2]),
        ("a\n{% set x = 1 %}\nb", []),
    ],
)
def test_swallowed_newlines(body: str, expected: list[int]) -> None:
    """A tag behind text swallows the newline; on a line of its own it may."""
    assert lines(user(body), "PK203") == expected


def test_what_is_glued_by_the_rule_is_glued_by_rendering() -> None:
    """The finding and the rendered text agree."""
    glued, kept = user("a {% if 1 %}b{% endif %}\nc"), user("a {% if 1 %}b{% endif +%}\nc")
    assert template(glued).render({}).messages[0].content == "a bc"
    assert template(kept).render({}).messages[0].content == "a b\nc"


def test_a_file_that_ends_in_a_tag_glues_nothing() -> None:
    """At the end of a partial there is no next line."""
    assert not found("a {% if 1 %}b{% endif %}\n", "PK203")
    assert not found("a {# c #}\n{% set x = 1 %}", "PK203")


def test_single_braces_of_declared_variables_only() -> None:
    """JSON in a prompt stays what it is; {brand} is meant otherwise."""
    body = 'Answer {"a": {b}}, {c} and { brand } for {{ brand }} {{{brand}}}'
    assert [
        one.message for one in found(user(body.replace("{{{brand}}}", ""), "[variables.brand]"), "PK204")
    ] == ["{ brand } is plain text: the variable's value is not inserted"]


# -------------------------------------------------------------------------- PK3: cost


def prefix(body: str, front: str = "[variables.brand]", in_world: LintContext | None = None) -> list[str]:
    return [one.message for one in found(user(body, front), "PK301", in_world)]


def test_what_breaking_the_prefix_costs() -> None:
    """1,551 tokens that would be read from the cache at 0.10 cost 1.00 a million: $1.40 per 1,000 calls."""
    (what,) = prefix(f"For {{{{ brand }}}}.\n{LONG}")
    assert what.startswith("brand comes before 1,551 tokens of text that is the same in every call")
    assert "1,552 tokens aren't cached, $1.3968 per 1,000 calls on p/thinks" in what


def test_only_what_is_behind_the_break_is_lost_where_the_rest_is_cached() -> None:
    """A beginning that reaches the minimum by itself is cached: only the rest counts."""
    (what,) = prefix(f"{LONG}\nFor {{{{ brand }}}}.\n{LONG}")
    assert "brand comes before 1,551 tokens" in what
    assert "1,551 tokens aren't cached" in what


@pytest.mark.parametrize(
    "body",
    [
        f"{LONG}\nFor {{{{ brand }}}}.",
        "For {{ brand }}.\n" + LONG[:600],
        LONG,
        f"{{{{ brand }}}}: the brand\n{LONG[:3000]}",
    ],
    ids=["stable first", "below the minimum", "no value", "below the minimum, long label"],
)
def test_no_prefix_to_keep(body: str) -> None:
    """Silent where nothing is lost."""
    assert not prefix(body)


def test_labels_beside_values_cannot_be_moved() -> None:
    """Many short stretches behind values are no stable text."""
    body = "\n".join(f"Label number {n}, said in some more words: {{{{ brand }}}}" for n in range(200))
    assert not prefix(body)


def test_values_of_few_kinds_are_stable() -> None:
    """Choices and booleans don't break a prefix; `set` and loops pass a difference on."""
    front = '[variables.brand]\n[variables.lang]\nchoices = ["en", "fr"]\n[variables.safe]\ntype = "boolean"'
    assert not prefix(f"{{{{ lang }}}} {{{{ safe }}}}\n{LONG}\n{{{{ brand }}}}", front)
    assert prefix(f"{{% set x = brand %}}{{{{ x }}}}\n{LONG}", front)
    assert prefix(f"{{% set x %}}{{{{ brand }}}}{{% endset %}}{{{{ x }}}}\n{LONG}", front)
    assert not prefix(f"{{% set x %}}{{{{ lang }}}}{{% endset %}}{{{{ x }}}}\n{LONG}\n{{{{ brand }}}}", front)
    assert prefix(f"{{% with x = brand %}}{{{{ x }}}}\n{LONG}{{% endwith %}}", front)
    assert prefix(f"{{% macro m() %}}{{{{ brand }}}}{{% endmacro %}}{{{{ m() }}}}\n{LONG}", front)
    assert not prefix(
        f"{{% macro m() %}}{{{{ lang }}}}{{% endmacro %}}{{{{ m() }}}}\n{LONG}\n{{{{ brand }}}}", front
    )
    assert prefix(f"{{% filter upper %}}{{{{ brand }}}}{{% endfilter %}}\n{LONG}", front)
    assert prefix(f"{{% for c in brand %}}-{{% endfor %}}\n{LONG}", front)
    assert not prefix(f"{{% for c in brand %}}{{% endfor %}}\n{LONG}\n{{{{ brand }}}}", front)


def test_loops_over_literals_repeat_their_text() -> None:
    """Examples written as a loop count as often as they are sent."""
    body = "{{ brand }}\n{% for x in [1, 2, 3, 4] %}\n" + LONG[:1600] + "{{ x }}\n{% endfor %}"
    assert prefix(body)
    assert not prefix(body.replace("[1, 2, 3, 4]", "[1]"))


def test_the_longest_branch_counts_and_includes_are_followed() -> None:
    """A conditional is read as its longest branch; what an include says is part of the flow."""
    text = user(
        '{{ brand }}\n{% if brand %}\nShort.\n{% else %}\n{% include "shared/rules@1" %}\n{% endif %}\n{{ 7 }}',
        "[variables.brand]",
    )
    (one,) = found(text, "PK301", includes={"shared/rules@1": LONG})
    assert one.line == 5


def test_a_target_without_price_or_cache_says_nothing() -> None:
    """No price, no discount, or a cache that must be asked for: nothing is lost that can be named."""
    body = f"For {{{{ brand }}}}.\n{LONG}"
    flat = replace(THINKS, price=PriceOverride(Decimal(1), Decimal(4)))
    assert not prefix(body, in_world=world(flat))
    assert not prefix(body, in_world=world(replace(THINKS, price=None)))
    assert not prefix(body, in_world=world(adapter="anthropic", api="messages"))


# ------------------------------------------------------------------------ PK4: output


def test_the_routes_default_limit_is_told() -> None:
    """Without a limit the route's is sent; a partial sends nothing."""
    (one,) = found(user("x"), "PK401")
    assert one.message.startswith("no output limit: the route's default of 1,024 tokens")
    assert not found(user("x", "[params]\nmax_output_tokens = 9"), "PK401")
    assert not found("Just a partial.", "PK401")


@pytest.mark.parametrize(
    ("front", "model", "eats"),
    [
        ("max_output_tokens = 1000", THINKS, True),
        ("max_output_tokens = 1200", THINKS, False),
        ('max_output_tokens = 4000\nreasoning = "medium"', THINKS, True),
        ('max_output_tokens = 100\nreasoning = "off"', THINKS, False),
        (
            'max_output_tokens = 100\nreasoning = "off"',
            replace(THINKS, reasoning={**LEVELS, Reasoning.OFF: "low"}),
            True,
        ),
        ("max_output_tokens = 100", replace(THINKS, reasoning={Reasoning.LOW: 512}), False),
        ("max_output_tokens = 100", replace(THINKS, reasoning=None), False),
        ("max_output_tokens = 100", replace(THINKS, rejects=frozenset({"reasoning"})), False),
        ("temperature = 1", THINKS, True),
    ],
)
def test_reasoning_eats_small_limits(front: str, model: Model, eats: bool) -> None:  # noqa: FBT001 - a column of the table
    """A limit below what the level spends is found, also the route's default; a budget in tokens never."""
    assert bool(found(user("x", f"[params]\n{front}"), "PK402", world(model))) is eats


def test_a_partial_has_no_output() -> None:
    """Nothing about output is said of a partial."""
    assert not [one for one in lint(template("A partial."), world()) if one.code.startswith("PK4")]


@pytest.mark.parametrize(
    ("schema", "family", "expected"),
    [
        ('type = "object"', "openai", 0),
        ('type = "array"', "openai", 1),
        ('type = "array"', "gemini", 0),
        ('type = "object"\nproperties.a = { "$ref" = "https://x.example/s" }', "gemini", 1),
        ('type = "object"\nproperties.a = { "$ref" = "#" }', "openai", 0),
        ('type = "object"\nproperties.a = { "$ref" = "#" }', "anthropic", 1),
        (
            RING,
            "anthropic",
            2,
        ),
        (
            'type = "object"\nproperties.a = { "$ref" = "#/$defs/n" }\n"$defs".n = { type = "string" }',
            "anthropic",
            0,
        ),
        ('type = "object"\nproperties.a = { "$ref" = "#/nowhere/n" }', "anthropic", 0),
    ],
)
def test_schemas_by_family(schema: str, family: str, expected: int) -> None:
    """What a provider's structured output has no way to keep."""
    apis = {"openai": "responses", "gemini": "generate", "anthropic": "messages"}
    in_world = world(adapter=family, api=apis[family])
    assert len(found(user("x", f"[output]\n{schema}"), "PK403", in_world)) == expected


def test_a_parameter_is_left_out_or_the_call_refused() -> None:
    """`on_reject` decides which of the two rules speaks; the line is the parameter's."""
    text = user("x", "[params]\nmax_output_tokens = 5000\ntemperature = 0.5")
    (left_out,) = found(text, "PK404")
    assert (left_out.line, left_out.severity) == (4, Severity.WARNING)
    assert not found(text, "PK405")
    (refused,) = found(text, "PK405", world(replace(THINKS, on_reject=OnReject.REFUSE)))
    assert (refused.line, refused.severity) == (2, Severity.ERROR)
    structured = text.replace("[params]", '[output]\ntype = "object"\n[params]')
    assert found(structured, "PK405", world(replace(THINKS, on_reject=OnReject.REFUSE)))[0].line == 2


# ----------------------------------------------------------------------- PK5: targets


def test_a_model_that_is_gone() -> None:
    """What the provider said is gone is told with the route's name."""
    (one,) = found(user("x"), "PK501", world(gone=True))
    assert one.message.startswith("p/thinks, on the route 'default', no longer exists")
    assert not found(user("x"), "PK501")


@pytest.mark.parametrize(
    ("front", "near"),
    [
        ("[variables.a]\nmax_length = 240000", True),
        ("[variables.a]\nmax_length = 230000", False),
        ("[variables.a]", False),
        ('[variables.a]\ntype = "integer"', False),
        ("[variables.a]\nmax_length = 230000\n[params]\nmax_output_tokens = 5000", True),
    ],
)
def test_near_the_context_window(front: str, near: bool) -> None:  # noqa: FBT001 - a column of the table
    """Bounds and the output limit together, against four fifths of a window of 100,000."""
    model = replace(THINKS, context_window=100_000)
    assert bool(found(user("{{ a }}", front), "PK502", world(model))) is near
    assert not found(user("{{ a }}", front), "PK502", world(replace(THINKS, context_window=None)))


def test_lists_and_objects_have_bounds_too() -> None:
    """A list is as long as its items times their number, an object as its fields, printed one by one or not."""
    model = replace(THINKS, context_window=100_000)
    items = '[variables.a]\ntype = "list"\nmax_length = 10\n[variables.a.items]\nmax_length = {}'
    loop = "{% for x in a %}\n- {{ x }}\n{% endfor %}"
    assert found(user(loop, items.format(24_000)), "PK502", world(model))
    assert not found(user(loop, items.format(23_000)), "PK502", world(model))
    assert not found(user(loop, '[variables.a]\ntype = "list"\nmax_length = 999999'), "PK502", world(model))
    fields = (
        '[variables.a]\ntype = "object"\nfields.x = {{ max_length = {0} }}\nfields.y = {{ max_length = {0} }}'
    )
    both = "{{ a.x }} {{ a.y }}"
    assert found(user(both, fields.format(120_000)), "PK502", world(model))
    assert not found(user(both, fields.format(115_000)), "PK502", world(model))


def test_a_conversation_breaks_the_prefix() -> None:
    """What comes behind a history is in another place in every call."""
    front = '+++\n[variables.history]\ntype = "messages"\ndefault = []\n+++\n'
    text = "{% messages history %}\n" + user(LONG)
    assert [one.line for one in found(front + text, "PK301")] == [6]
    assert not found(front + user(LONG) + "{% messages history %}\n", "PK301")
    fixed = '{% messages [{"role": "user", "content": "hi"}] %}\n' + user(LONG)
    assert not found(fixed, "PK301")


# ---------------------------------------------------------------- PK6, PK7, and the whole


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("unknown variable 'x'", "PK101"),
        ("a published version includes only pinned versions, not 'x'", "PK603"),
        ("a/b@1 was changed after it was published", "PK602"),
        ("no valid Jinja", "PK601"),
    ],
)
def test_errors_of_loading_have_codes(what: str, code: str) -> None:
    """An error of the library becomes a finding with its file, line and remedy."""
    one = from_error("a/b", TemplateError(what, file="f", line=3, remedy="r"))
    assert (one.code, one.rule, one.severity) == (code, RULES[code].name, Severity.ERROR)
    assert (one.file, one.line, one.remedy, one.template) == ("f", 3, "r", "a/b")
    assert from_error("a/b", TemplateError(what)).remedy == ""


def test_a_switch_hides_its_rule_and_no_other() -> None:
    """A switched-off rule is silent; the rest still speaks."""
    text = user("a \nb", '[lint]\nPK202 = "Markdown"')
    codes = {one.code for one in lint(template(text), world())}
    assert "PK202" not in codes
    assert "PK104" in codes
    assert "PK701" not in codes


def test_switches_that_hide_nothing_or_exist_not() -> None:
    """An idle switch is a warning, an unknown or a forbidden one an error, each at its line."""
    front = '[lint]\nPK202 = "Markdown"\nPK999 = "?"\nPK601 = "?"'
    findings = [one for one in lint(template(user("a", front)), world()) if one.code.startswith("PK7")]
    assert [(one.code, one.line) for one in findings] == [("PK701", 3), ("PK702", 4), ("PK702", 5)]
    assert findings[2].message == "PK601 can't be switched off"


def test_a_switch_without_a_reason_is_refused() -> None:
    """Front matter takes no empty reason."""
    with pytest.raises(TemplateError, match=r"lint\.PK202 gives no reason"):
        read_source(user("a", '[lint]\nPK202 = " "'), file="x")


def test_findings_come_in_the_order_of_lines() -> None:
    """By line, then by code: as an editor lists them."""
    text = user("a \nb\n\n\n{x}", "[variables.x]\n[variables.y]")
    findings = lint(template(text), world())
    assert [(one.line, one.code) for one in findings] == sorted((one.line or 0, one.code) for one in findings)
    assert len(findings) > 5


def test_codes_are_grouped_and_names_unique() -> None:
    """A code says its group, a name is used once."""
    assert all(code[:2] == "PK" and len(code) == 5 for code in RULES)
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    assert all(rule.summary.endswith(".") for rule in RULES.values())
