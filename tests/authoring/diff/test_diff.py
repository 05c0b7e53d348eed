"""Two versions side by side: front matter, sources, prompts, tokens, cost."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptkit.authoring.diff import (
    AROUND_MESSAGES,
    ChangeKind,
    SpecChange,
    TargetPricing,
    TemplateDiff,
    TextDiff,
    changes,
    diff,
    sources,
    to_json,
    unified,
)
from promptkit.authoring.examples import GENERATED, Example, complete, sample_value
from promptkit.providers.prices import Prices, Tariff
from promptkit.providers.tokens import estimate_input_tokens
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template
from promptkit.templates.variables import Invalid, coerce, expected
from promptkit.types import (
    Format,
    Json,
    Kind,
    Model,
    PriceOverride,
    Provider,
    Target,
    TemplateRef,
    TemplateSpec,
    Usage,
    Variable,
)

HEAD = """description = "A line"
[variables.brand]
max_length = 80
[variables.angle]
choices = ["problem", "proof"]
default = "proof"
[params]
max_output_tokens = 400
"""
BODY = """{% set tone = "dry" %}
{% message "system" %}
You write one line.
Be {{ tone }}.
{% endmessage %}
{% message "user" %}Brand: {{ brand }}. Angle: {{ angle }}.{% endmessage %}
"""


def template(head: str = HEAD, body: str = BODY, *, at: str = "1", **includes: str) -> Template:
    parts: dict[str, Part] = {}
    for name, text in includes.items():
        source = read_source(text, file=name)
        parts[f"{name}@1"] = Part.join(TemplateRef(name, "1"), source, compile_source(source), {})
    source = read_source(f"+++\n{head}+++\n{body}", file="draft.jinja")
    return Template(Part.join(TemplateRef("ad/line", at), source, compile_source(source), parts))


def compare(new: Template, old: Template | None = None, *examples: Example) -> TemplateDiff:
    return diff(old or template(), new, examples or (Example("barly", {"brand": "Barly"}),), ())


def test_the_same() -> None:
    """A version beside itself differs in nothing."""
    found = compare(template(at="2"))
    assert found.is_same
    assert (found.spec, found.sources, found.examples[0].texts, found.costs) == ((), (), (), ())
    assert found.tokens[0] == found.tokens[1]


def test_front_matter() -> None:
    """Each key that is new, gone or changed is told with what it was and is."""
    head = """description = "A line, short"
[variables.brand]
max_length = 120
[variables.tone]
choices = ["dry", "warm"]
default = "dry"
[params]
max_output_tokens = 400
reasoning = "low"
stop = ["END"]
[output]
type = "object"
required = ["line"]
"""
    body = BODY.replace("Angle: {{ angle }}", "{{ tone }}").replace('{% set tone = "dry" %}\n', "")
    assert compare(template(head, body)).spec == (
        SpecChange(("description",), ChangeKind.CHANGED, "A line", "A line, short"),
        SpecChange(("variables", "brand", "max_length"), ChangeKind.CHANGED, 80, 120),
        SpecChange(
            ("variables", "angle"),
            ChangeKind.REMOVED,
            old={"name": "angle", "default": "proof", "choices": ["problem", "proof"]},
        ),
        SpecChange(
            ("variables", "tone"),
            ChangeKind.ADDED,
            new={"name": "tone", "default": "dry", "choices": ["dry", "warm"]},
        ),
        SpecChange(("params", "reasoning"), ChangeKind.ADDED, new="low"),
        SpecChange(("params", "stop"), ChangeKind.ADDED, new=["END"]),
        SpecChange(("output",), ChangeKind.ADDED, new={"type": "object", "required": ["line"]}),
    )


def test_output_schema() -> None:
    """A schema is told key by key, as deep as it goes."""
    schema = '[output]\ntype = "object"\n[output.properties.line]\ntype = "string"\nmaxLength = {}\n'
    old, new = (template(HEAD + schema.replace("{}", size)) for size in ("80", "60"))
    assert compare(new, old).spec == (
        SpecChange(("output", "properties", "line", "maxLength"), ChangeKind.CHANGED, 80, 60),
    )


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def patched(value: Json, change: SpecChange) -> Json:
    """The value with one change made."""
    if not change.path:
        return change.new
    assert isinstance(value, dict)
    key, rest = change.path[0], SpecChange(change.path[1:], change.kind, change.old, change.new)
    if not rest.path and change.kind is ChangeKind.REMOVED:
        assert value[key] == change.old
        return {name: item for name, item in value.items() if name != key}
    if not rest.path:
        assert (key in value) is (change.kind is ChangeKind.CHANGED)
        return value | {key: change.new}
    return value | {key: patched(value[key], rest)}


@given(JSONS, JSONS)
def test_changes_lead_from_one_to_the_other(old: Json, new: Json) -> None:
    """The changes between two values, made one after the other, turn the one into the other."""
    found = list(changes(old, new))
    assert (found == []) == (repr(old) == repr(new) or old == new)
    value = old
    for change in found:
        value = patched(value, change)
    assert value == new


def test_true_is_not_one() -> None:
    """JSON tells true from 1."""
    assert list(changes({"a": True}, {"a": 1})) == [SpecChange(("a",), ChangeKind.CHANGED, old=True, new=1)]


def test_plain() -> None:
    """Front matter as JSON: defaults left out, enums as their words, sets in order, the rest as text."""
    assert to_json(TemplateSpec()) == {}
    assert to_json({"a": frozenset({"y", "x"}), "b": (1, None), "c": Decimal("1.50")}) == {
        "a": ["x", "y"],
        "b": [1, None],
        "c": "1.50",
    }
    assert to_json(Variable("a", Kind.LIST)) == {"name": "a", "kind": "list"}


def test_sources_by_message() -> None:
    """The source differs message by message, and apart from them what stands around them."""
    body = (
        BODY.replace("one line", "two lines")
        .replace("Be {{ tone }}", "Stay {{ tone }}")
        .replace("dry", "warm")
    )
    assert compare(template(body=body)).sources == (
        TextDiff(
            "system message",
            (
                "@@ -1,2 +1,2 @@",
                "-You write one line.",
                "-Be {{ tone }}.",
                "+You write two lines.",
                "+Stay {{ tone }}.",
            ),
        ),
        TextDiff(
            AROUND_MESSAGES,
            (
                "@@ -1,4 +1,4 @@",
                '-{% set tone = "dry" %}',
                '+{% set tone = "warm" %}',
                ' {% message "system" %}…{% endmessage %}',
                ' {% message "user" %}…{% endmessage %}',
                " ",
            ),
        ),
    )


def test_a_message_more_and_less() -> None:
    """A message that is new or gone is told whole; the second of a role has a number."""
    body = BODY + "{%- message 'user' -%} Shorter. {%- endmessage -%}\n"
    more, around = compare(template(body=body)).sources
    assert more == TextDiff("user message 2", ("@@ -0,0 +1 @@", "+Shorter. "))
    assert around.title == AROUND_MESSAGES
    less = compare(template(), template(body=body)).sources[-1]
    assert less == TextDiff("user message 2", ("@@ -1 +0,0 @@", "-Shorter. "))


def test_tags_in_values_are_no_messages() -> None:
    """What only looks like a message tag is text."""
    body = (
        '{% message "user" %}{{ "{% message" }} {# {% endmessage %} #} endmessage {{ brand }}{% endmessage %}'
    )
    assert sources(template(body=body)) == {
        "user message": '{{ "{% message" }} {# {% endmessage %} #} endmessage {{ brand }}',
        AROUND_MESSAGES: '{% message "user" %}…{% endmessage %}',
    }


def test_empty_message() -> None:
    """A message block without text has an empty text."""
    body = '{% if false %}{% message "system" %}{% endmessage %}{% endif %}{% message "user" %}{{ brand }}{% endmessage %}'
    assert sources(template(body=body))["system message"] == ""


def test_includes() -> None:
    """An include that means another text differs by that text, under its name."""
    body = BODY.replace("Be {{ tone }}.", '{% include "voice@1" %}')
    old, new = (template(body=body, voice=f"Speak {way}.\n") for way in ("softly", "up"))
    assert compare(new, old).sources == (
        TextDiff("include voice", ("@@ -1,2 +1,2 @@", "-Speak softly.", "+Speak up.", " ")),
    )


def test_two_versions_of_an_include() -> None:
    """Where two versions of a partial are included, each has its own text."""
    parts: dict[str, Part] = {}
    for at in "12":
        source = read_source(f"Voice {at}", file="voice")
        parts[f"voice@{at}"] = Part.join(TemplateRef("voice", at), source, compile_source(source), {})
    source = read_source(
        '{% message "user" %}{% include "voice@1" %}{% include "voice@2" %}{% endmessage %}', file="x"
    )
    both = Template(Part.join(TemplateRef("x", "1"), source, compile_source(source), parts))
    assert {text for title, text in sources(both).items() if title.startswith("include")} == {
        "Voice 1",
        "Voice 2",
    }


def test_partials() -> None:
    """A partial has no messages: its text is told as one."""
    source = [read_source(text, file="voice") for text in ("Softly.", "Loudly.")]
    old, new = (
        Template(Part.join(TemplateRef("voice", "1"), one, compile_source(one), {})) for one in source
    )
    found = diff(old, new, (), ())
    assert found.sources == (TextDiff("text", ("@@ -1 +1 @@", "-Softly.", "+Loudly.")),)
    assert (found.examples, found.tokens) == ((), (None, None))


def test_prompts() -> None:
    """The prompts of an example differ message by message, with about how many tokens each has."""
    new = template(body=BODY.replace("Angle: {{ angle }}", "Come at it by {{ angle }}"))
    found = compare(new, None, Example("barly", {"brand": "Barly", "angle": "problem"}))
    (rendering,) = found.examples
    assert rendering.example == "barly"
    assert rendering.texts == (
        TextDiff(
            "user message",
            ("@@ -1 +1 @@", "-Brand: Barly. Angle: problem.", "+Brand: Barly. Come at it by problem."),
        ),
    )
    assert rendering.tokens[1] == estimate_input_tokens(new.render({"brand": "Barly"}))
    assert rendering.problems == (None, None)


def test_the_schema_counts_as_tokens() -> None:
    """A schema that is sent along counts."""
    found = compare(template(HEAD + '[output]\ntype = "object"\ntitle = "a line of text for a video"\n'))
    old, new = found.tokens
    assert old is not None
    assert new is not None
    assert new > old + 8


def test_what_an_example_lacks_is_made_up() -> None:
    """A newly required variable is made up and named; one that is gone is left out."""
    head = HEAD.replace("[variables.angle]", "[variables.tone]\n[variables.approach]")
    body = BODY.replace("Angle: {{ angle }}", "{{ approach }} {{ tone }}")
    new = template(head, body.replace('{% set tone = "dry" %}\n', ""))
    example = Example("barly", {"brand": "Barly", "angle": "problem"})
    (rendering,) = compare(new, None, example).examples
    assert rendering.generated == ("tone",)
    assert "+Brand: Barly. proof [tone]." in rendering.texts[-1].lines
    (rendering,) = compare(new, None, GENERATED).examples
    assert rendering.generated == ("brand", "tone")


def test_what_cannot_be_rendered_says_why() -> None:
    """An example that doesn't fit a side says so of that side, and nothing is counted."""
    new = template(HEAD.replace("max_length = 80", "max_length = 3"))
    found = compare(new)
    (rendering,) = found.examples
    assert rendering.problems[0] is None
    assert "at most 3 characters" in (rendering.problems[1] or "")
    assert rendering.texts == ()
    assert rendering.tokens[0] is not None
    assert rendering.tokens[1] is None
    assert found.tokens == (None, None)
    mixed = compare(new, None, Example("barly", {"brand": "Barly"}), Example("b", {"brand": "B"}))
    assert mixed.tokens == mixed.examples[1].tokens


AT = datetime(2026, 11, 22, tzinfo=UTC)


def tariff(input_usd: str, output_usd: str) -> Tariff:
    model = Model("m", price=PriceOverride(Decimal(input_usd), Decimal(output_usd)))
    card = Prices().card(Provider("p", "openai", "chat", "openai"), model, AT)
    assert card is not None
    found = card.tariff()
    assert found is not None
    return found


def test_bills() -> None:
    """A call's cost before and after: the mean input alone, and with the whole output limit; unknown is None."""
    rates = tariff("1", "4")
    offers = [
        TargetPricing(Target("p", "m"), rates, (400, 300)),
        TargetPricing(Target("p", "x"), None, (400, 300)),
    ]
    examples = [Example(name, {"brand": name}) for name in ("Barly", "A brand with a much longer name")]
    new = template(body=BODY + '{% message "assistant" %}Of course, here it is.{% endmessage %}')
    found = diff(template(), new, examples, offers)
    counts = [rendering.tokens for rendering in found.examples]
    old, after = (round(sum(count[side] or 0 for count in counts) / 2) for side in (0, 1))
    assert found.tokens == (old, after)
    known, unknown = found.costs
    assert known.input_pico == (old * 10**6, after * 10**6)
    assert known.most_pico == (rates.pico(Usage(old, 400)), rates.pico(Usage(after, 300)))
    assert known.limits == (400, 300)
    assert (unknown.input_pico, unknown.most_pico) == ((None, None), (None, None))


VARIABLES = [
    Variable("a"),
    Variable("a", min_length=10),
    Variable("a", max_length=2),
    Variable("a", choices=("x", "y")),
    Variable("a", Kind.INTEGER),
    Variable("a", Kind.INTEGER, minimum=5),
    Variable("a", Kind.INTEGER, maximum=-5),
    Variable("a", Kind.INTEGER, minimum=0.5, maximum=1.5),
    Variable("a", Kind.INTEGER, maximum=0.5),
    Variable("a", Kind.NUMBER, minimum=0.5, maximum=0.7),
    Variable("a", Kind.NUMBER, choices=(1.5, 2.5)),
    Variable("a", Kind.BOOLEAN),
    Variable("a", Kind.LIST),
    Variable("a", Kind.LIST, min_length=3),
    Variable("a", Kind.LIST, max_length=0),
    Variable("a", Kind.LIST, choices=("x", "y"), min_length=3),
    Variable("a", Kind.LIST, items=Variable("item", Kind.INTEGER)),
    Variable("a", Kind.OBJECT, fields={"name": Variable("name"), "age": Variable("age", default=3)}),
    Variable("a", Kind.MESSAGES),
    *(Variable("a", format=one) for one in Format),
]


@pytest.mark.parametrize("variable", VARIABLES, ids=expected)
def test_made_up_values_fit(variable: Variable) -> None:
    """A value that is made up for a variable is one that it accepts."""
    assert not isinstance(coerce(variable, sample_value(variable)), Invalid)


def test_completed() -> None:
    """What an example gives stands, what is required and lacking is made up, what is undeclared is left out."""
    variables = {"a": Variable("a"), "b": Variable("b"), "c": Variable("c", default="c")}
    assert complete(Example("x", {"b": 1, "z": 2}), variables) == ({"a": "[a]", "b": 1}, ("a",))


@given(st.lists(st.sampled_from("ab "), max_size=6), st.lists(st.sampled_from("ab "), max_size=6))
def test_unified(old: list[str], new: list[str]) -> None:
    """The lines of a diff hold the whole of what is added and removed."""
    one, two = "\n".join(old), "\n".join(new)
    lines = unified(one, two)
    assert (lines == ()) == (one == two)
    marked = [line for line in lines if line[:1] in {"-", "+"}]
    assert sum(1 if line[0] == "+" else -1 for line in marked) == two.count("\n") - one.count("\n")
