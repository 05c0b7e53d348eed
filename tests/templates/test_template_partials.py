"""Partials that declare variables: inherited by whoever includes them, overridden by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from promptkit.authoring.diff import spec_changes
from promptkit.authoring.publish import OwnTemplates, publish
from promptkit.errors import TemplateError, VariableError
from promptkit.templates.declarations import variables_schema
from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.library import Library
from promptkit.templates.names import check
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, StoredSource, Template

VOICE = """\
+++
description = "How a brand speaks"

[variables.tone]
description = "How it sounds"
max_length = 20
default = "plain"

[variables.avoid]
default = []
+++
Tone: {{ tone }}
"""


def part(files: Mapping[str, str], name: str = "t") -> Part:
    """A file with the files that it includes, each named as it is written in the include."""
    source = read_source(files[name], file=f"{name}.jinja")
    compiled = compile_source(source)
    inner = {written: part(files, written) for written in compiled.includes}
    return Part.join(parse_ref(name), source, compiled, inner)


def template(text: str, **files: str) -> Template:
    return Template(part({"t": text, **files}))


def user(text: str) -> str:
    return f'{{% message "user" %}}\n{text}\n{{% endmessage %}}\n'


def test_an_included_variable_is_the_template_s_own() -> None:
    """It is bound, checked, rendered, named in checks, and read by the including template as well."""
    made = template(
        '+++\n[variables.brand]\n[checks]\nbanned_from = ["avoid"]\n+++\n'
        + user("{{ brand }}, {{ tone|upper }}\n{% include 'voice' %}"),
        voice=VOICE,
    )
    assert list(made.spec.variables) == ["brand", "tone", "avoid"]
    prompt = made.render(made.bind({"brand": "Barly", "tone": "dry"}))
    assert prompt.messages[0].content == "Barly, DRY\nTone: dry"
    assert made.render({"brand": "Barly"}).messages[0].content == "Barly, PLAIN\nTone: plain"
    assert {name: str(each.ref) for name, each in made.inherited.items()} == {
        "tone": "voice",
        "avoid": "voice",
    }
    assert (made.inherited["tone"].source.file, made.inherited["tone"].line) == ("voice.jinja", 4)
    properties = variables_schema(made.spec)["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == ["brand", "tone", "avoid"]


def test_a_declaration_of_the_same_name_replaces_the_whole() -> None:
    """No key of the inherited declaration is left, so a variable can become required again."""
    made = template(
        "+++\n[variables.tone]\nmin_length = 2\n+++\n" + user("{% include 'voice' %}"), voice=VOICE
    )
    tone = made.spec.variables["tone"]
    assert (tone.min_length, tone.max_length, tone.description, tone.required) == (2, None, "", True)
    assert set(made.inherited) == {"avoid"}


def test_nested_includes_hand_on_what_they_inherit() -> None:
    """A partial that only declares adds no text; a nearer declaration replaces one further in."""
    made = template(
        user("{% include 'outer' %}"),
        outer='+++\n[variables.tone]\ndefault = "warm"\n+++\n{% include "voice" %}\n{% include "language" %}\n{{ language }}',
        voice=VOICE,
        language='+++\n[variables.language]\nchoices = ["en", "fr"]\ndefault = "en"\n+++\n',
    )
    assert made.render({}).messages[0].content == "Tone: warmen"
    assert {name: str(each.ref) for name, each in made.inherited.items()} == {
        "tone": "outer",
        "avoid": "voice",
        "language": "language",
    }


def test_an_include_in_a_branch_counts() -> None:
    """Callers must know the variables before anything is rendered."""
    made = template(
        "+++\n[variables.flag]\ndefault = false\n+++\n"
        + user("x{% if flag %}{% include 'voice' %}{% endif %}"),
        voice=VOICE,
    )
    assert list(made.spec.variables) == ["flag", "tone", "avoid"]
    assert made.render({}).messages[0].content == "x"


TWO = {
    "one": '+++\n[variables.tone]\ndefault = "warm"\n+++\n{{ tone }}',
    "two": '+++\n[variables.other]\ndefault = 1\n[variables.tone]\ndefault = "dry"\n+++\n{{ tone }}{{ other }}',
}
BOTH = user("{% include 'one' %}\n{% include 'two' %}")


def test_two_partials_that_differ_are_an_error_that_names_both() -> None:
    """The error stands at the second include and names the line of each declaration."""
    with pytest.raises(TemplateError) as caught:
        template(BOTH, **TWO)
    assert caught.value.message == "the includes declare 'tone' in two ways: one.jinja:2 and two.jinja:4"
    assert caught.value.where == "t.jinja:3"
    assert caught.value.remedy == "Declare [variables.tone] here: that replaces both."


def test_an_override_settles_what_two_partials_declare() -> None:
    """Neither declaration counts then."""
    made = template('+++\n[variables.tone]\ndefault = "own"\n+++\n' + BOTH, **TWO)
    assert made.render({}).messages[0].content == "ownown1"


def test_the_same_declaration_twice_is_no_conflict() -> None:
    """Two partials that share a third, or say the same, agree."""
    shared = '+++\n+++\n{% include "voice" %}'
    made = template(
        user("{% include 'a' %}\n{% include 'b' %}\n{% include 'c' %}"),
        a=shared,
        b=shared + "b",
        c=VOICE,
        voice=VOICE,
    )
    assert list(made.spec.variables) == ["tone", "avoid"]


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ({"tone": "x" * 21}, "voice.jinja:4", "tone: 21 characters"),
        ({"brand": ""}, "t.jinja", "brand: 0 characters"),
        ({"brand": "", "tone": "x" * 21}, "t.jinja", "2 variables don't fit"),
        ({"tones": "x"}, "t.jinja", "tones: unknown; did you mean tone?"),
    ],
)
def test_a_wrong_value_points_to_the_declaration(given: dict[str, object], where: str, what: str) -> None:
    """A single problem with an inherited variable names the partial's file and line."""
    made = template(
        "+++\n[variables.brand]\nmin_length = 1\ndefault = 'b'\n+++\n"
        + user("{{ brand }}{% include 'voice' %}"),
        voice=VOICE,
    )
    with pytest.raises(VariableError) as caught:
        made.bind(given)
    assert caught.value.where == where
    assert what in caught.value.message


def test_an_undeclared_name_in_a_partial_names_both_files() -> None:
    """It may be declared in the partial, or in the template that includes it."""
    with pytest.raises(TemplateError) as caught:
        template(user("{% include 'voice' %}"), voice=VOICE.replace("{{ tone }}", "{{ tune }}"))
    assert caught.value.where == "voice.jinja:12"
    assert caught.value.remedy == "Did you mean tone? Or declare [variables.tune] in voice.jinja or t.jinja."


def test_an_unknown_field_names_the_partial_that_declares_the_object() -> None:
    """Also where the including template reads it."""
    with pytest.raises(TemplateError) as caught:
        template(
            user("{{ brand.nmae }}{% include 'brand' %}"),
            brand="+++\n[variables.brand.fields.name]\n+++\n{{ brand.name }}",
        )
    assert caught.value.where == "t.jinja:2"
    assert caught.value.remedy == "Declare it among the fields of brand in brand.jinja, or correct it."


def test_checks_name_declared_variables_only() -> None:
    """A name that no file declares is refused with its line."""
    with pytest.raises(TemplateError, match="required_from: 'avoids' is not known") as caught:
        template(
            '+++\n[checks]\nrequired_from = ["avoids"]\n+++\n' + user("{% include 'voice' %}"), voice=VOICE
        )
    assert (caught.value.where, caught.value.remedy) == ("t.jinja:3", "Did you mean 'avoid'?")


def test_what_a_template_never_reads_is_unused() -> None:
    """A partial's variable counts as read if either file reads it."""
    made = template(user("{% include 'voice' %}"), voice=VOICE)
    assert check(made).unused == ("avoid",)
    assert check(made).undeclared == {}
    assert check(template(user("{{ avoid }}{% include 'voice' %}"), voice=VOICE)).unused == ()


def test_the_digest_covers_what_an_include_declares() -> None:
    """A changed declaration changes the seal, and a stored source brings its variables back."""
    made, other = (
        template(user("{% include 'voice' %}"), voice=text) for text in (VOICE, VOICE.replace("20", "30"))
    )
    assert made.digest != other.digest
    changed = spec_changes(made.spec, other.spec)
    assert [(change.path, change.old, change.new) for change in changed] == [
        (("variables", "tone", "max_length"), 20, 30)
    ]
    stored: dict[str, StoredSource] = {source.digest: source for source in made.sources()}
    rebuilt = Template.rebuild(made.digest, stored.get)
    assert rebuilt.spec.variables == made.spec.variables
    assert json.dumps(variables_schema(rebuilt.spec)) == json.dumps(variables_schema(made.spec))


def test_a_published_version_keeps_the_variables_of_its_pin(tmp_path: Path) -> None:
    """A new version of a partial changes no published template; the list shows both as they are."""
    write: Callable[[str, str], object] = lambda name, text: (  # noqa: E731 - short
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True),
        (tmp_path / name).write_text(text, encoding="utf-8"),
    )
    desk = OwnTemplates(Library([tmp_path]), [tmp_path])
    write("voice/draft.jinja", VOICE)
    publish(desk, "voice")
    write("a/draft.jinja", '+++\ndescription = "A"\n+++\n' + user('{% include "voice" %}'))
    publish(desk, "a")
    write("voice/draft.jinja", VOICE.replace("[variables.avoid]", "[variables.never]"))
    publish(desk, "voice")
    library = Library([tmp_path])
    assert list(library.load("a@1").spec.variables) == ["tone", "avoid"]
    assert list(library.load("a@draft").spec.variables) == ["tone", "never"]
    assert [(entry.name, entry.is_partial, entry.problem) for entry in library.entries()] == [
        ("a", False, ""),
        ("voice", True, ""),
    ]
