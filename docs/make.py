"""Keep the generated parts of the documentation in step with what they describe.

    python docs/make.py            write them
    python docs/make.py --check    list the pages that are behind (exit 1)

A generated part is between a mark and `<!-- end -->`: after `<!-- variables NAME -->` the table
of the variables of a shipped template, after `<!-- commands -->` the help of every command, after
`<!-- providers -->` (in the README) how each shipped provider was checked.
"""  # noqa: INP001 - a script beside the pages, no package

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from promptkit._util import toml
from promptkit.config.paths import shipped
from promptkit.config.provider_files import read_provider
from promptkit.templates.library import Library
from promptkit.types import Checked, Kind, TemplateSpec, Value, Variable

_VARIABLES = re.compile(r"(<!-- variables (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_COMMANDS = re.compile(r"(<!-- commands -->\n).*?(<!-- end -->)", re.DOTALL)
_PROVIDERS = re.compile(r"(<!-- providers -->\n).*?(<!-- end -->)", re.DOTALL)
_WIDTH = 100


def pages(folder: Path) -> list[Path]:
    """The pages that may hold generated parts: the folder's, and the README beside it."""
    return sorted([*folder.glob("*.md"), *folder.parent.glob("README.md")])


def renewed(page: str, library: Library) -> str:
    """The page with its generated parts written anew.

    Raises:
        TemplateNotFound: a part names a template that isn't shipped.
    """
    page = _VARIABLES.sub(lambda part: part[1] + table(library.load(part[2]).spec) + part[3], page)
    page = _COMMANDS.sub(lambda part: part[1] + commands() + part[2], page)
    return _PROVIDERS.sub(lambda part: part[1] + providers() + part[2], page)


def commands() -> str:
    """The help of every command, as Markdown."""
    from promptkit.cli.app import helps

    return "\n".join(f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps(_WIDTH))


def providers() -> str:
    """The shipped providers as a Markdown table, the checked ones first."""
    files = [read_provider(path.stem, _document(path)) for path in shipped("providers").glob("*.toml")]
    ordered = sorted(files, key=lambda provider: (provider.checked is Checked.DOCS, provider.name))
    rows = [
        f"| `{one.name}` | {one.adapter} {one.api} | {f'`{one.api_key_env}`' if one.api_key_env else 'none'} "
        f"| {one.checked_on if one.checked is Checked.LIVE else 'never'} "
        f"| {'' if one.checked is Checked.LIVE else f'{one.checked}, {one.checked_on}'} |"
        for one in ordered
    ]
    head = "| provider | format | key | last checked live | otherwise checked |"
    return "\n".join([head, "|---|---|---|---|---|", *rows, ""])


def _document(path: Path) -> toml.Table:
    return toml.parse(path.read_text(encoding="utf-8"), file=path.name)


def table(spec: TemplateSpec) -> str:
    """The variables of a template as a Markdown table, required ones first."""
    ordered = sorted(spec.variables.values(), key=lambda variable: not variable.required)
    rows = [f"| `{v.name}` | {v.description} | {_accepts(v)} | {_default(v)} |" for v in ordered]
    return "\n".join(["| variable | what it is | takes | default |", "|---|---|---|---|", *rows, ""])


def _accepts(variable: Variable) -> str:
    if variable.choices:
        return ", ".join(f"`{choice}`" for choice in variable.choices)
    if variable.kind is Kind.BOOLEAN:
        return "`true`, `false`"
    if variable.kind in {Kind.INTEGER, Kind.NUMBER}:
        return f"{variable.minimum:g} to {variable.maximum:g}"
    unit = "items" if variable.kind is Kind.LIST else "characters"
    return f"up to {variable.max_length:,} {unit}"


def _default(variable: Variable) -> str:
    return "**required**" if variable.required else _shown(variable.default)


def _shown(value: Value | None) -> str:
    return "-" if value in ("", []) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` name those that are behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is behind")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="the pages")
    options = parser.parse_args(arguments)
    library = Library([shipped("templates")])
    behind = 0
    for page in pages(options.folder):
        text = page.read_text(encoding="utf-8")
        new = renewed(text, library)
        if new == text:
            continue
        behind += 1
        if options.check:
            sys.stderr.write(f"{page.name} is behind: run python docs/make.py\n")
        else:
            page.write_text(new, encoding="utf-8")
    return int(options.check and behind > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
