"""The beginning of a template: what all its prompts have in common, whatever is filled in."""

from collections.abc import Callable

import pytest

from promptkit.templates.prefix import LEAST_CHARACTERS, begins_with
from promptkit.templates.template import Part, Template
from promptkit.types import Message, Prompt, Role

MakePart = Callable[..., Part]
MakeTemplate = Callable[..., Template]

RULES = "Keep it short. " * 120

FRONT = """+++
[variables.x]
default = "X"
[variables.xs]
default = ["a", "b"]
[variables.angle]
choices = ["problem", "proof"]
default = "proof"
[variables.flag]
type = "boolean"
default = true
[variables.history]
type = "messages"
default = [{"role" = "user", "content" = "hi"}]
+++
"""

CUTS = {
    "a variable": ("one {{ x }} two", "one"),
    "a call of it": ("one {{ x|upper }}", "one"),
    "one of few": ("for {{ angle }}: {{ x }}", "for proof:"),
    "a branch by one of few": ("{% if flag %}yes{% else %}no{% endif %}, {{ x }}", "yes,"),
    "the other branch": ("{% if angle == 'problem' %}a{% elif flag %}b{% else %}c{% endif %} {{ x }}", "b"),
    "a cut in a branch": ("one {% if not flag %}{{ x }}{% else %}two{% endif %} three", "one two"),
    "a branch by what differs": ("one {% if x %}two{% endif %}", "one"),
    "an elif by what differs": ("one {% if not flag %}two{% elif x %}three{% endif %}", "one"),
    "a branch that sets": ("{% if x %}{% set y = 1 %}{% endif %}one {{ y }}", "one"),
    "a loop over what is written": ("{% for n in [1, 2] %}{{ n }},{% endfor %} {{ x }}", "1,2,"),
    "a loop with an else": ("{% for n in [] %}{{ n }}{% else %}none{% endfor %} {{ x }}", "none"),
    "a cut in a loop": ("one {% for n in [1, 2] %}{{ n }}{{ x }}{% endfor %}", "one"),
    "a cut in a loop's else": ("one {% for n in [] %}{{ n }}{% else %}{{ x }}{% endfor %}", "one"),
    "a loop over what differs": ("one {% for a in xs %}two{% endfor %}", "one"),
    "a loop filtered by it": ("one {% for n in [1] if x %}two{% endfor %}", "one"),
    "a recursive loop": ("one {% for n in [1] recursive %}two{% endfor %}", "one"),
    "a name that is set": ("{% set y = 'one' %}{{ y }} {{ x }}", "one"),
    "a name set to what differs": ("{% set y = x %}{% set z = y %}one {{ z }}", "one"),
    "a block that is set": ("{% set y %}one{% endset %}{{ y }} {{ x }}", "one"),
    "a block set to what differs": ("{% set y %}{{ x }}{% endset %}one {{ y }}", "one"),
    "a namespace": ("{% set ns = namespace(a=1) %}{{ ns.a }} {{ x }}", "1"),
    "a namespace that gets it": ("one {% set ns = namespace(a=1) %}{% set ns.a = x %}{{ ns.a }}", "one"),
    "a name set in a loop": ("{% for a in xs %}{% set y = 1 %}{% endfor %}one", "{{ nothing"),
    "a macro": ("{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m('one') }} {{ m(x) }}", "<one>"),
    "a macro that reads it": ("{% macro m() %}<{{ x }}>{% endmacro %}one {{ m() }}", "one"),
    "with": ("{% with y = 'one' %}{{ y }} {{ x }}{% endwith %}", "one"),
    "with what differs": ("{% with y = x, z = 'one' %}{{ z }} {{ y }}{% endwith %}", "one"),
    "a filter block": ("{% filter upper %}one{% endfilter %} {{ x }}", "ONE"),
    "a filter block of it": ("one {% filter upper %}two {{ x }}{% endfilter %}", "one"),
    "a filter block of an include": ("one {% filter upper %}{% include 'same@1' %}{% endfilter %}", "one"),
    "an include": ("{% include 'same@1' %} {{ x }}", "SAME"),
    "an include that reads it": ("{% include 'cut@1' %} two", "cut"),
    "a call block": ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}one{% endcall %} {{ x }}", "<one>"),
    "nothing that differs": ("one", "one"),
}  # fmt: skip


@pytest.fixture
def template_of(make_part: MakePart) -> Callable[[str], Template]:
    includes = {
        "same@1": make_part("SAME", ref="same@1"),
        "cut@1": make_part("cut {{ x }}", ref="cut@1"),
    }

    def make(body: str) -> Template:
        used = {name: part for name, part in includes.items() if name in body}
        return Template(make_part(FRONT + body, includes=used))

    return make


def rendered(template: Template, **values: object) -> Prompt:
    return template.render(template.bind(values), prefix=True)


@pytest.mark.parametrize("name", CUTS)
def test_the_beginning_ends_where_something_that_differs_is_first_read(
    template_of: Callable[[str], Template], name: str
) -> None:
    """It is what stands before that, as it renders; all prompts begin so, to the letter."""
    body, ends = CUTS[name]
    template = template_of('{% message "user" %}' + RULES + body + "{% endmessage %}")
    first, other = rendered(template), rendered(template, x="Other", xs=["c"])
    assert first.prefix is not None
    assert first.prefix.texts[-1].removeprefix(RULES.strip()).strip() == ends.replace("{{ nothing", "")
    assert first.prefix == other.prefix
    assert begins_with(other.messages, first.prefix)


def test_a_beginning_goes_over_messages(template_of: Callable[[str], Template]) -> None:
    """Messages before the cut are in it whole; one that has no text before it isn't."""
    system = '{% message "system" %}' + RULES + "{% endmessage %}"
    for body, texts in {
        '{% message "user" %}Brand: {{ x }}{% endmessage %}': (RULES.strip(), "Brand:"),
        '{% message "user" %}{{ x }}{% endmessage %}': (RULES.strip(),),
        '{% message "user" %} {{ x }}{% endmessage %}': (RULES.strip(),),
        '{% messages history %}{% message "user" %}Go.{% endmessage %}': (RULES.strip(),),
    }.items():
        prompt = rendered(template_of(system + body))
        assert prompt.prefix is not None
        assert prompt.prefix.texts == texts


def test_few_values_have_beginnings_of_their_own(template_of: Callable[[str], Template]) -> None:
    """Calls with the same choice share one; the digest tells them apart, and it is not the prompt's."""
    template = template_of('{% message "user" %}{{ angle }} ' + RULES + "{{ x }}{% endmessage %}")
    proof, again, problem = (
        rendered(template, angle="proof", x="a"),
        rendered(template, angle="proof", x="b"),
        rendered(template, angle="problem", x="a"),
    )
    assert proof.prefix is not None
    assert problem.prefix is not None
    assert again.prefix is not None
    assert proof.prefix.digest == again.prefix.digest != problem.prefix.digest
    assert (
        proof.digest
        == template.render(template.bind({"angle": "proof", "x": "a"})).digest
        != proof.prefix.digest
    )


def test_what_is_too_short_to_be_cached_is_no_beginning(template_of: Callable[[str], Template]) -> None:
    """Nor is one looked for that nobody asks for."""
    long_value = "{{ x }}" + RULES
    for body in ("short {{ x }}", long_value, "{% if flag %}" + RULES + "{% else %}no{% endif %}{{ x }}"):
        template = template_of('{% message "user" %}' + body + "{% endmessage %}")
        assert rendered(template, flag=False).prefix is None
    template = template_of('{% message "user" %}' + RULES + "{% endmessage %}")
    assert template.render(template.bind({})).prefix is None
    assert len(RULES) > LEAST_CHARACTERS


def test_many_beginnings_take_no_more_room_than_some(make_template: MakeTemplate) -> None:
    """A template of many choices forgets beginnings, and makes them again."""
    front = "+++\n[variables.n]\nchoices = [" + ", ".join(f'"{n}"' for n in range(300)) + "]\n+++\n"
    template = make_template(front + '{% message "user" %}' + RULES + "{{ n }}{% endmessage %}")
    prompts = [rendered(template, n=str(n)) for n in range(300)]
    assert [prompt.prefix for prompt in prompts] == [rendered(template, n=str(n)).prefix for n in range(300)]
    assert len({prompt.prefix and prompt.prefix.digest for prompt in prompts}) == 300


def test_a_beginning_is_compared_with_the_prompt() -> None:
    """Another text, a longer message or a missing one is none that begins so."""
    from promptkit.types import Prefix

    prefix = Prefix(("one", "two"), "sha256:0")
    for texts, begins in {
        ("one", "two"): True,
        ("one", "two three", "four"): True,
        ("one more", "two"): False,
        ("one", "2"): False,
        ("one",): False,
    }.items():
        messages = tuple(Message(Role.USER, text) for text in texts)
        assert begins_with(messages, prefix) is begins
