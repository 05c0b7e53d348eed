"""docs/glossary.md decides the words; no page, help, message or name uses a forbidden one."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
GLOSSARY: Final = ROOT / "docs" / "glossary.md"
SOURCE: Final = ROOT / "src" / "promptkit"

PAGES: Final = [
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page != GLOSSARY),
    *sorted((ROOT / "benchmarks").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
]

EXCEPTIONS: Final = (
    # word, file, what the line contains, why it may stay
    ("skeletons", "docs/kit.md", "prompt skeletons", "the kit introduces itself, once"),
    ("patience", "src/**", "patience_s", "the old configuration key is read until 1.0"),
    ("held", "src/**", "LockHeld", "a lock is held; this is not about money"),
    ("hold", "src/**", "organization_on_hold", "OpenAI's own error code"),
    ("hold", "src/promptkit/simulator/reply_text.py", "Hold {0} close", "a sentence of a simulated reply"),
    ("nobody", "src/promptkit/simulator/reply_text.py", "obody", "words of simulated replies"),
)
"""Uses of a forbidden word that stay, each with its reason."""

SKIPPED: Final = {
    "src/promptkit/ledger/migrations/versions/*": "a published migration never changes",
}
"""Files that are not checked, each with its reason."""

EVERYWHERE: Final = "everywhere"
CODE: Final = "in code"
WHOLE: Final = "whole name"


@dataclass(frozen=True, slots=True)
class Hit:
    """A forbidden word, and where it is."""

    word: str
    file: str
    line: int
    text: str


# ------------------------------------------------------------------------------ the glossary


def forbidden(page: str) -> dict[str, frozenset[str]]:
    """Read the forbidden words of the glossary, lower case, by where they are forbidden."""
    words: dict[str, set[str]] = {EVERYWHERE: set(), CODE: set(), WHOLE: set()}
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = (_cells(row) for row in table.splitlines())
        for row in rows:
            if head == ["term", "meaning", "not"]:
                everywhere, _, code = row[2].partition("in code:")
                words[EVERYWHERE] |= _quoted(everywhere)
                words[CODE] |= _quoted(code)
            else:
                assert head == ["not", "write", "where"], head
                words[row[2]] |= _quoted(row[0])
    return {where: frozenset(those) for where, those in words.items()}


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def _quoted(cell: str) -> set[str]:
    return {word.lower() for word in re.findall(r"`([^`]+)`", cell)}


WORDS: Final = forbidden(GLOSSARY.read_text("utf-8"))


# ------------------------------------------------------------------------------- the matching


def words_of(name: str) -> list[str]:
    """Split a name into words: `old_LaneState2` is old, lane, state, 2."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


@cache
def pattern(words: frozenset[str]) -> re.Pattern[str]:
    """Match any of the words or phrases as whole words; a name in snake_case counts as its words."""
    alternatives = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(words))
    return re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", re.IGNORECASE)


def in_prose(text: str, file: str, first_line: int = 1) -> Iterator[Hit]:
    """Find the words that are forbidden everywhere in a text."""
    lines = text.splitlines()
    for match in pattern(WORDS[EVERYWHERE]).finditer(text):
        number = text.count("\n", 0, match.start())
        word = " ".join(match[0].lower().split())
        yield Hit(word, file, first_line + number, lines[number].strip())


def in_name(name: str, file: str, line: int) -> Iterator[Hit]:
    """Find the words that are forbidden in a name."""
    for word in dict.fromkeys(words_of(name)):
        if word in WORDS[EVERYWHERE] | WORDS[CODE]:
            yield Hit(word, file, line, name)
    if name.strip("_").lower() in WORDS[WHOLE]:
        yield Hit(f"{name.strip('_').lower()} (as a whole name)", file, line, name)


def kept(hits: Iterable[Hit]) -> list[Hit]:
    """Leave out the exceptions."""
    return [
        hit
        for hit in hits
        if not any(
            hit.word == word and fnmatch(hit.file, file) and part in hit.text
            for word, file, part, _ in EXCEPTIONS
        )
    ]


def report(hits: Iterable[Hit]) -> str:
    """Group the hits by word, the most frequent first, each with its places."""
    groups: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        groups[hit.word].append(hit)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    total = sum(map(len, groups.values()))
    lines = [f"{total} uses of {len(groups)} forbidden words; docs/glossary.md has the words to use"]
    for word, those in ordered:
        lines.append(f"{word}: {len(those)}")
        lines += [f"    {hit.file}:{hit.line}: {hit.text[:100]}" for hit in those]
    return "\n".join(lines)


def check(hits: Iterable[Hit]) -> None:
    """Fail with the report if there are hits."""
    if left := kept(hits):
        pytest.fail(report(left), pytrace=False)


# ---------------------------------------------------------------------------------- the texts

_NOT_PROSE: Final = re.compile(
    r"<!-- (\w+)[^>]*-->.*?<!-- end -->"  # generated
    r"|^(?P<fence>```+)[^\n]*\n.*?^(?P=fence)[ ]*$"  # a block of code
    r"|^:::.*(?:\n[ ]+.*)*"  # an entry of the Python reference
    r"|``[^\n]+?``|`[^`\n]+`"  # code in a sentence
    r"|\]\([^)\s]*\)",  # the address of a link
    re.DOTALL | re.MULTILINE,
)


def prose(page: str) -> str:
    """Blank out generated parts, code and addresses; the line numbers stay."""
    return _NOT_PROSE.sub(lambda part: "\n" * part[0].count("\n"), page)


def comments(text: str) -> str:
    """Blank out all but the comments of a TOML or shell file."""
    return "\n".join(line.partition("#")[2] for line in text.splitlines())


def relative(path: Path) -> str:
    """Return a path as the report prints it."""
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the source, parsed."""

    file: str
    tree: ast.Module

    def messages(self) -> Iterator[tuple[str, int]]:
        """Yield the string literals that are no docstrings, with their lines."""
        docstrings = {id(node) for node in self._docstrings()}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value, node.lineno

    def _docstrings(self) -> Iterator[ast.Constant]:
        """Yield the strings that stand alone as a statement: docstrings, also those of attributes."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield node.value

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield the names that the module defines, with their lines."""
        for node in ast.walk(self.tree):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    yield node.name, node.lineno
                case ast.arg():
                    yield node.arg, node.lineno
                case ast.Name(ctx=ast.Store()):
                    yield node.id, node.lineno
                case ast.Attribute(ctx=ast.Store()):
                    yield node.attr, node.lineno
                case ast.alias(asname=str()):
                    yield node.asname or "", node.lineno
                case ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
                    yield node.name or "", node.lineno
                case ast.ExceptHandler(name=str()):
                    yield node.name or "", node.lineno
                case _:
                    pass


@cache
def modules() -> tuple[Module, ...]:
    """Parse the source, without the files that are skipped."""
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if not skipped(relative(path))]
    return tuple(Module(relative(path), ast.parse(path.read_text("utf-8"))) for path in paths)


def skipped(file: str) -> bool:
    """Return whether a file is not checked."""
    return any(fnmatch(file, those) for those in SKIPPED)


# ---------------------------------------------------------------------------------- the tests


def test_the_glossary_is_read() -> None:
    """Words from each kind of cell arrive where they belong."""
    assert {"skeleton", "skeletons", "went on", "ceiling", "told"} <= WORDS[EVERYWHERE]
    assert {"turn", "place", "answer"} <= WORDS[CODE]
    assert {"one", "taken"} <= WORDS[WHOLE]
    assert not WORDS[EVERYWHERE] & WORDS[CODE]


def test_words_are_matched_whole() -> None:
    """A word counts in a sentence and in a name, and not as a part of another word."""
    found = [hit.word for hit in in_prose("The lane_state of A Lane\nwent  on, a planet, delegates.", "x")]
    assert found == ["lane", "lane", "went on"]
    assert [hit.word for hit in in_name("_LaneStateTurn2", "x", 1)] == ["lane", "turn"]
    assert [hit.word for hit in in_name("_one", "x", 1)] == ["one (as a whole name)"]
    assert not list(in_name("one_row", "x", 1))
    assert not list(in_name("aggregate_placeholder", "x", 1))


def test_code_is_no_prose() -> None:
    """Code, generated parts and addresses are left out; the lines keep their numbers."""
    page = "a `lane`\n<!-- commands -->\nlane\n<!-- end -->\n```sh\nlane\n```\n[x](lane.md)\n\nlane\n"
    assert [(hit.word, hit.line) for hit in in_prose(prose(page), "x")] == [("lane", 10)]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page(page: Path) -> None:
    """The prose of a page uses the glossary's words."""
    check(in_prose(prose(page.read_text("utf-8")), relative(page)))


def test_the_configuration_and_the_examples() -> None:
    """So do the comments of config.example.toml, and the examples with all their texts."""
    config = ROOT / "config.example.toml"
    check(
        [
            *in_prose(comments(config.read_text("utf-8")), relative(config)),
            *(
                hit
                for path in sorted((ROOT / "examples").iterdir())
                if path.suffix in {".py", ".sh"}
                for hit in in_prose(path.read_text("utf-8"), relative(path))
            ),
        ]
    )


def test_the_help_of_every_command() -> None:
    """So does what `--help` prints."""
    from promptkit.cli.app import helps

    check(hit for name, text in helps() for hit in in_prose(text, f"promptkit {name} --help"))


def test_the_messages_of_the_source() -> None:
    """So do the string literals of the source, docstrings aside."""
    check(
        hit
        for module in modules()
        for text, line in module.messages()
        for hit in in_prose(text, module.file, line)
    )


def test_the_names_of_the_source() -> None:
    """So do the names of modules, classes, functions, arguments and variables."""
    files = [
        hit for module in modules() for part in Path(module.file).with_suffix("").parts[2:]
        for hit in in_name(part, module.file, 1)
    ]  # fmt: skip
    check(
        [
            *dict.fromkeys(files),
            *(
                hit
                for module in modules()
                for name, line in module.names()
                for hit in in_name(name, module.file, line)
            ),
        ]
    )


def test_every_exception_is_needed() -> None:
    """An exception that nothing needs any more is removed."""
    hits = [
        *(hit for page in PAGES for hit in in_prose(prose(page.read_text("utf-8")), relative(page))),
        *(
            hit
            for module in modules()
            for hit in (
                *(hit for text, line in module.messages() for hit in in_prose(text, module.file, line)),
                *(hit for name, line in module.names() for hit in in_name(name, module.file, line)),
            )
        ),
    ]
    for word, file, part, why in EXCEPTIONS:
        assert any(hit.word == word and fnmatch(hit.file, file) and part in hit.text for hit in hits), (
            word,
            why,
        )


def test_the_kit_says_prompt_skeleton_once() -> None:
    """The exception of the kit is for the sentence in which it introduces itself."""
    assert len(re.findall("skeleton", prose((ROOT / "docs" / "kit.md").read_text("utf-8")))) == 1
