"""The shipped kit keeps promptkit's own lint, and the tests that stand beside its versions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from promptkit.authoring.lint import lint
from promptkit.authoring.lint_context import LintContext
from promptkit.authoring.prompt_tests import run_prompt_tests
from promptkit.authoring.template_tests import failures, read_template_tests
from promptkit.config.loading import load
from promptkit.config.paths import shipped
from promptkit.config.settings import Settings
from promptkit.providers.prices import Prices
from promptkit.templates.library import Library
from promptkit.templates.template import Template

NAMES = sorted(
    str(path.parent.relative_to(shipped("templates"))) for path in shipped("templates").rglob("versions.toml")
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("home")
    return load(None, env={}, cwd=folder, home=folder)


def template(library: Library, name: str) -> Template:
    return library.load(name)


@pytest.mark.parametrize("name", NAMES)
def test_lint_finds_nothing(name: str, library: Library, settings: Settings) -> None:
    """On the route that each is made for, the shipped templates and partials are clean."""
    route = settings.routes["demo" if name == "demo/hook" else "default"]
    world = LintContext(settings.catalog, Prices(), route, datetime(2026, 11, 22, tzinfo=UTC))
    assert not lint(template(library, name), world)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("ugc/")])
def test_offline_tests_pass(name: str, library: Library) -> None:
    """English and French, the least and everything, and the frame for families where there is one."""
    shown = template(library, name)
    cases = read_template_tests(shown)
    assert not failures(run_prompt_tests(shown, cases))
    assert {case.variables.get("language", "en") for case in cases} == {"en", "fr"}
    assert sum(case.snapshot is True for case in cases) == 4
    families = {case.variables.get("language", "en") for case in cases if case.variables.get("family_safe")}
    assert families == ({"en", "fr"} if "family_safe" in shown.spec.variables else set[str]())
    assert all(case.max_tokens and case.reply for case in cases)


def test_no_snapshot_is_left_over() -> None:
    """Every snapshot that is shipped belongs to a test."""
    library = Library([shipped("templates")])
    kept = {path.relative_to(shipped("templates")) for path in shipped("templates").rglob("snapshots/*")}
    asked = {
        Path(name) / "snapshots" / f"{case.slug}.txt"
        for name in NAMES
        for case in read_template_tests(library.load(name))
        if case.snapshot is True
    }
    assert kept == asked
