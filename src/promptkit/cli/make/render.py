"""`promptkit render`: the prompt of a template, without sending it."""

from __future__ import annotations

from promptkit.cli import options, values
from promptkit.cli.command import Cli
from promptkit.types import Json, Prompt


def render(cli: Cli, ref: options.Ref, var: options.Vars = None, vars_: options.VarsFile = None) -> None:
    """Show the prompt that would be sent.

    It uses no network and no database.

    Examples:
        promptkit render ugc/hooks -v brand=Barly -v product="protein bar" -v audience=runners
        promptkit render ugc/retake@draft --vars barly.toml -v note=@note.txt --json
    """
    template = cli.session().library.load(ref)
    bound = template.bind(values.read_variables(var, vars_))
    prompt = template.render(bound)
    for flag in template.flags(bound):
        cli.notice(flag)
    if cli.as_json:
        cli.print_json(_prompt_json(prompt))
    else:
        cli.print("\n\n".join(f"--- {message.role} ---\n{message.content}" for message in prompt.messages))


def _prompt_json(prompt: Prompt) -> dict[str, Json]:
    return {
        "template": str(prompt.ref),
        "template_digest": prompt.template_digest,
        "prompt_digest": prompt.digest,
        "messages": [{"role": message.role.value, "content": message.content} for message in prompt.messages],
    }
