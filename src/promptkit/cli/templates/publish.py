"""`promptkit templates publish`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from promptkit.authoring.lint import Severity, lint
from promptkit.authoring.prompt_tests import prompt_test_problems
from promptkit.authoring.publish import publish as publish_draft
from promptkit.cli import options
from promptkit.cli.command import Cli
from promptkit.cli.output import plain
from promptkit.cli.views.labels import publisher_of
from promptkit.errors import counted

from .lint import world_of

if TYPE_CHECKING:
    from promptkit.authoring.lint_context import LintContext
    from promptkit.templates.template import Template


def publish(cli: Cli, name: options.TemplateName, route: options.RouteName = None) -> None:
    """Seal the draft as the next version.

    Includes without a version are pinned to the version that they mean now. It is refused if lint
    finds an error or a prompt test fails. A draft that equals the newest version is not published
    again.

    Examples:
        promptkit templates publish ugc/script
        promptkit templates publish ugc/script --json
    """
    session = cli.session()
    world = world_of(cli, session, session.route(route))
    published = publish_draft(
        publisher_of(session), name, check=lambda template: _problems(cli, template, world)
    )
    if cli.as_json:
        cli.print_json(
            {
                "template": str(published.ref),
                "file": str(published.file),
                "new": published.is_new,
                "pinned": plain(published.pinned),
            }
        )
        return
    cli.print(str(published.ref))
    for written, pinned in published.pinned.items():
        cli.notice(f'include "{written}" is pinned to "{pinned}"')
    if not published.is_new:
        cli.notice(f"nothing is new: the draft equals {published.ref}")


def _problems(cli: Cli, template: Template, world: LintContext) -> Sequence[str]:
    """Return what keeps a draft from being published: lint errors and failed prompt tests."""
    findings = lint(template, world)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if warnings := len(findings) - len(errors):
        cli.notice(
            f"lint: {counted(warnings, 'warning')}; "
            f"`promptkit templates lint {template.ref.name}@draft` lists them"
        )
    texts = [f"{finding.code} (line {finding.line}) {finding.message}" for finding in errors]
    return [*texts, *prompt_test_problems(template)]
