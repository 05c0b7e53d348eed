"""What rendering costs, side by side: the same text by plain Jinja2, promptkit and peers, as ratios.

    python benchmarks/rendering.py [--listing N]

Peers that aren't installed are left out; those with needs of their own go into an environment of
their own, in which promptkit's `src` on PYTHONPATH and jinja2 are all that this script asks for:

    python -m venv peers && peers/bin/pip install banks "prompty[jinja2]" jsonschema
    PYTHONPATH=src peers/bin/python benchmarks/rendering.py

Every contender is warm: its template is read and compiled before the clock starts. The best of
many rounds counts, since the rest is the machine's noise. What each does is not the same:
promptkit checks the variables, bounds steps and characters, and keeps values out of roles.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from promptkit.templates.jinja.compiler import compile_source
from promptkit.templates.library import Library
from promptkit.templates.reference import parse_ref
from promptkit.templates.source import read_source
from promptkit.templates.template import Part, Template

ROUNDS = 40
RUNS = 200

SYSTEM = """\
You write scripts for short videos.
{% if family_safe %}
Write so that a family can watch it together.
{% endif %}
Answer in {{ language }}."""
USER = """\
Brand: {{ brand|upper }}
Audience: {{ audience }}
{% for product in products %}
{{ loop.index }}. {{ product }}{% if not loop.last %};{% endif %}

{% endfor %}
Angle: {{ angle }}. Length: {{ seconds }} seconds, about {{ seconds * 2 }} words.
"""
DECLARED = """\
+++
[variables.brand]
[variables.audience]
[variables.language]
[variables.angle]
choices = ["problem", "proof"]
[variables.family_safe]
type = "boolean"
[variables.seconds]
type = "integer"
minimum = 5
[variables.products]
type = "list"
+++
"""
VALUES: dict[str, Any] = {
    "brand": "Barly",
    "audience": "runners who skip breakfast",
    "language": "French",
    "angle": "proof",
    "family_safe": True,
    "seconds": 30,
    "products": [f"bar number {number}, 12 g of protein" for number in range(8)],
}


CallRequest = Callable[[dict[str, Any]], object]
"""Makes the text of some values."""


def plain() -> CallRequest:
    """Jinja2 as it comes, both texts from one template."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701 - prompts aren't HTML
    template = environment.from_string(SYSTEM + "\n" + USER)
    return template.render


def template() -> Template:
    """The same as a template."""
    text = f'{DECLARED}{{% message "system" %}}\n{SYSTEM}\n{{% endmessage %}}\n{{% message "user" %}}\n{USER}{{% endmessage %}}\n'
    source = read_source(text, file="bench.jinja")
    return Template(Part.join(parse_ref("bench@1"), source, compile_source(source), {}))


def ours() -> CallRequest:
    """promptkit, values bound before."""
    return template().render


def ours_with_binding() -> CallRequest:
    """promptkit, each time from a caller's values on."""
    made = template()
    return lambda values: made.render(made.bind(values))


def sandboxed() -> CallRequest:
    """Jinja2's own sandbox, strict: no bounds, no roles, no checks."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(SYSTEM + "\n" + USER)
    return template.render


def banks() -> CallRequest:
    """The chat messages of banks."""
    from banks import Prompt  # pyright: ignore[reportMissingImports] - in an environment of its own

    made = Prompt(
        f'{{% chat role="system" %}}{SYSTEM}{{% endchat %}}{{% chat role="user" %}}{USER}{{% endchat %}}'
    )
    return made.chat_messages


def prompty() -> CallRequest:
    """Rendering and parsing by prompty into messages, of a file loaded before."""
    import prompty as peer  # pyright: ignore[reportMissingImports] - in an environment of its own

    folder = Path(tempfile.mkdtemp())
    kinds = {str: "string", int: "integer", bool: "boolean", list: "array\n    items:\n      kind: string"}
    inputs = "\n".join(f"  {name}:\n    kind: {kinds[type(value)]}" for name, value in VALUES.items())
    file = folder / "bench.prompty"
    file.write_text(
        f"---\nname: bench\nmodel: x\ntemplate:\n  format:\n    kind: jinja2\n  parser:\n    kind: prompty\ninputs:\n{inputs}\n---\nsystem:\n{SYSTEM}\n\nuser:\n{USER}",
        encoding="utf-8",
    )
    agent = peer.load(str(file))
    return lambda values: peer.prepare(agent, values)


CONTENDERS: dict[str, Callable[[], CallRequest]] = {
    "Jinja2": plain,
    "Jinja2, sandboxed": sandboxed,
    "promptkit, render": ours,
    "promptkit, bind and render": ours_with_binding,
    "banks": banks,
    "prompty": prompty,
}


def best_us(work: CallRequest) -> float:
    """The best time of one run in microseconds. No values come twice: some keep what they made."""
    best = float("inf")
    for turn in range(ROUNDS):
        rows = [{**VALUES, "brand": f"Barly {turn} {number}"} for number in range(RUNS)]
        start = time.perf_counter()
        for values in rows:
            work(values)
        best = min(best, (time.perf_counter() - start) / RUNS)
    return best * 1e6


def words_of(made: object) -> list[str]:
    """The words of a text that stand in any form of it."""
    return re.findall(r"bar number \d", str(made))


def rendering() -> None:
    """Print the table."""
    base = 0.0
    print(f"{'':<28} {'us':>8} {'ratio':>7}")
    for name, make in CONTENDERS.items():
        try:
            work = make()
            made = work(VALUES)
        except ImportError:
            print(f"{name:<28} not installed")
            continue
        if len(words_of(made)) < len(VALUES["products"]):
            print(f"{name:<28} makes another text: {made!r:.200}")
            continue
        took = best_us(work)
        base = base or took
        print(f"{name:<28} {took:>8.1f} {took / base:>7.2f}")


def listing(count: int) -> None:
    """Print what listing a folder of templates takes, cold and warm."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            path = Path(name) / f"group{number % 100:02}" / f"t{number}"
            path.mkdir(parents=True)
            text = f'+++\ndescription = "Template {number}"\n{DECLARED.removeprefix("+++")}'
            (path / "draft.jinja").write_text(
                text + '{% message "user" %}{{ brand }}{% endmessage %}\n', encoding="utf-8"
            )
        for word in ("a new library", "the same again"):
            library = Library([Path(name)])
            start = time.perf_counter()
            found = len(library.entries())
            print(f"{found:,} templates listed in {time.perf_counter() - start:.2f} s ({word})")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listing", type=int, default=10_000, metavar="N", help="templates to list; 0: none")
    asked = parser.parse_args()
    rendering()
    if asked.listing:
        listing(asked.listing)


if __name__ == "__main__":
    main()
