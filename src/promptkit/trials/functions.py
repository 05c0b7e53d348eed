"""Python functions as expectations: code of the project's folder, run only where the user allows it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from promptkit.errors import UsageError, closest

Function = Callable[[str, Mapping[str, object]], Any]


class Functions:
    """The functions of a project, `module:function`.

    A module is a file below the folder of promptkit.toml (`checks`: checks.py, `tools.checks`:
    tools/checks.py), loaded once. A function gets the reply and the test's variables. It returns
    None or True where all is well, False, a problem as text, or a list of them; an assertion that
    fails is a problem, too.

    Args:
        root: the project's folder; None where code must not be run.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._modules: dict[str, ModuleType] = {}

    @property
    def allowed(self) -> bool:
        """Whether functions are run."""
        return self._root is not None

    def find(self, name: str) -> Function:
        """A function by its name.

        Raises:
            UsageError: no such module or function, or the module can't be loaded.
        """
        module_name, _, function_name = name.partition(":")
        module = self._modules.get(module_name) or self._load(module_name)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [one for one, value in vars(module).items() if callable(value) and one[:1] != "_"]
            raise UsageError(
                f"no function {function_name!r}", file=module.__file__, remedy=closest(function_name, known)
            )
        return cast("Function", function)

    def judge(self, name: str, text: str, variables: Mapping[str, object]) -> tuple[str, ...]:
        """What a function has against a reply.

        Raises:
            UsageError: there is no such function.
        """
        function = self.find(name)
        try:
            found = function(text, variables)
        except AssertionError as cause:
            return (f"{name}: {str(cause) or 'an assertion failed'}",)
        except Exception as cause:  # noqa: BLE001 - whatever the user's code says is the test's problem
            return (f"{name} raised {type(cause).__name__}: {cause}",)
        return tuple(f"{name}: {problem}" for problem in _problems(found))

    def _load(self, name: str) -> ModuleType:
        assert self._root is not None  # noqa: S101 - asked only where allowed
        path = self._root.joinpath(*name.split(".")).with_suffix(".py")
        if not path.is_file():
            raise UsageError(
                f"no module {name}", file=path, remedy="A function stands in a file beside promptkit.toml."
            )
        spec = importlib.util.spec_from_file_location(f"promptkit_project.{name}", path)
        assert spec is not None  # noqa: S101 - a .py file always has one
        assert spec.loader is not None  # noqa: S101 - the same
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as cause:
            raise UsageError(f"can't be loaded: {type(cause).__name__}: {cause}", file=path) from cause
        self._modules[name] = module
        return module


def _problems(found: object) -> list[str]:
    if found is None or found is True:
        return []
    if found is False:
        return ["says no"]
    items = cast("list[object]", found) if isinstance(found, list | tuple) else [found]
    return [str(item) for item in items]
