"""The env file: `KEY=VALUE` lines, read strictly and never put into the process environment."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from promptkit.errors import ConfigError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_env_file(path: Path) -> dict[str, str]:
    """Read an env file; one that does not exist is empty (it isn't in git, and keys may come otherwise).

    Raises:
        ConfigError: others can read or change it, or it isn't a text of KEY=VALUE lines.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if mode & _OTHERS:
                raise ConfigError(
                    "other users can read or change this file, and it contains keys",
                    file=path,
                    remedy=f"chmod 600 {path}",
                )
            text = stream.read().decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as cause:
        raise ConfigError(f"can't be read: {cause.strerror}", file=path) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", file=path) from None
    return parse_env(text, file=str(path))


_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_DOUBLE = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'(?P<text>[^']*)'\s*(?:#.*)?")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_env(text: str, *, file: str) -> dict[str, str]:
    r"""Read `KEY=VALUE` lines; of two for one key the last counts, nothing is interpolated.

    A line may start with `export`; `#` starts a comment, in an unquoted value after a space.
    Single quotes are literal; double quotes understand `\n`, `\t`, `\"` and `\\`.

    Raises:
        ConfigError: with the line's number, never its text.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        match = _LINE.fullmatch(bare)
        value = None if match is None else _unquoted(match["value"])
        if match is None or value is None:
            problem = "not a KEY=VALUE line" if match is None else "a quote that doesn't close"
            raise ConfigError(problem, file=file, line=number, remedy='Write KEY=VALUE or KEY="VALUE".')
        values[match["name"]] = value
    return values


def _unquoted(raw: str) -> str | None:
    """Return a value without its quotes, or None if they don't close."""
    if raw.startswith('"'):
        double = _DOUBLE.fullmatch(raw)
        return double and _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), double["text"])
    if raw.startswith("'"):
        single = _SINGLE.fullmatch(raw)
        return single and single["text"]
    return _COMMENT.sub("", raw).strip()
