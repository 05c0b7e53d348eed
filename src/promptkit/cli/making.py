"""Commands that make things: a project, a text, a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypedDict

from promptkit.batch.columns import usd_text
from promptkit.cli import option_texts, options
from promptkit.errors import ExitCode, UsageError
from promptkit.types import Json, Prompt, Reply, Status, Usage, dollars
from promptkit.types.ids import show_id

from .face import Face
from .pieces import Pieces
from .times import lasting


class _Asked(TypedDict):
    route: str | None
    targets: Sequence[str] | None
    tags: Mapping[str, str]
    budget_usd: Decimal | None
    cache: str | None


def run(
    face: Face,
    ref: options.Ref,
    var: options.Vars = None,
    vars_: options.VarsFile = None,
    route: options.RouteName = None,
    target: options.Targets = None,
    tag: options.Tags = None,
    budget: options.Budget = None,
    stream: options.Stream = False,
    cache: options.Cache = None,
    no_cache: options.NoCache = False,
) -> int:
    """Make one text now.

    The text goes to stdout; what it took, to stderr. With --stream it comes word by word: until
    the first one other targets are tried as ever; a text that breaks off later is exit 5, with
    what had come printed and kept. Who interrupts it has it charged at its ceiling, since nobody
    tells what it cost.

    Examples:
        promptkit run ugc/hooks -v brand=Barly -v product="protein bar" -v audience=runners
        promptkit run ugc/script@2 --vars barly.json --route longform --tag client=barly
        promptkit run demo/hook --vars barly.json --target local/smollm2-135m --json
        promptkit run ugc/script --vars barly.json --stream
    """
    from promptkit import PromptKit

    if stream and face.as_json:
        raise UsageError(
            "--stream prints the text as it comes, --json one document at the end",
            remedy="Give one of them.",
        )
    variables = option_texts.read_variables(var, vars_)
    asked: _Asked = {
        "route": route,
        "targets": target,
        "tags": option_texts.read_tags(tag),
        "budget_usd": option_texts.read_budget(budget),
        "cache": option_texts.read_cache(cache, none=no_cache),
    }
    with PromptKit(face.settings(), say=face.say) as kit:
        reply = (
            Pieces().print(kit.stream(ref, variables, **asked))
            if stream
            else kit.run(ref, variables, **asked)
        )
    if face.as_json:
        face.print_json(reply_json(reply))
    else:
        if not stream:
            face.print(reply.text)
        for flag in reply.flags:
            face.say(f"flagged: {flag}")
        face.say(summary(reply))
    return ExitCode.SOME_FAILED if reply.status is Status.DEGRADED else ExitCode.OK


def render(face: Face, ref: options.Ref, var: options.Vars = None, vars_: options.VarsFile = None) -> None:
    """Show what exactly would be sent.

    It uses no network and no database.

    Examples:
        promptkit render ugc/hooks -v brand=Barly -v product="protein bar" -v audience=runners
        promptkit render ugc/retake@draft --vars barly.toml -v note=@note.txt --json
    """
    from promptkit.engine.context import Session

    session = Session(face.settings(), face.say)
    template = session.library.load(ref)
    bound = template.bind(option_texts.read_variables(var, vars_))
    prompt = template.render(bound)
    for flag in template.flags(bound):
        face.say(flag)
    if face.as_json:
        face.print_json(prompt_json(prompt))
    else:
        face.print("\n\n".join(f"--- {message.role} ---\n{message.content}" for message in prompt.messages))


def prompt_json(prompt: Prompt) -> dict[str, object]:
    """A prompt as JSON."""
    return {
        "template": str(prompt.ref),
        "template_digest": prompt.template_digest,
        "prompt_digest": prompt.digest,
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
    }


def reply_json(reply: Reply) -> dict[str, object]:
    """A reply as JSON, as the interface promises it."""
    return {
        "id": show_id(reply.id),
        "text": reply.text,
        **({} if reply.parsed is None else {"parsed": reply.parsed}),
        **({"flags": list(reply.flags)} if reply.flags else {}),
        "target": str(reply.target),
        "served_model": reply.served_model,
        "template": str(reply.ref),
        "template_digest": reply.template_digest,
        "prompt_digest": reply.prompt_digest,
        "status": reply.status,
        **_cached_json(reply),
        "usage": usage_json(reply.usage),
        "cost_usd": usd_text(reply.cost_pico),
        "charged_usd": usd_text(reply.charged_pico),
        "latency_s": round(reply.latency_s, 6),
        "attempts": [
            {
                "target": str(attempt.target),
                "state": attempt.state,
                **({} if attempt.fault is None else {"fault": attempt.fault}),
                "cost_usd": usd_text(None if attempt.cost is None else attempt.cost.pico),
                "latency_s": round(attempt.latency_s, 6),
            }
            for attempt in reply.attempts
        ],
        "tags": dict(reply.tags),
    }


def usage_json(usage: Usage | None) -> dict[str, Json] | None:
    """Tokens as JSON; None where the provider did not say."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _cached_json(reply: Reply) -> dict[str, object]:
    """Of a reply that came from the cache, where from and what that saved; else nothing."""
    if reply.cached_from is None:
        return {}
    return {"cached_from": show_id(reply.cached_from), "saved_usd": usd_text(reply.saved_pico)}


def summary(reply: Reply) -> str:
    """One line on what the call was and cost."""
    if reply.cached_from is not None:
        return (
            f"{reply.target}, from the reply cache (call {show_id(reply.cached_from)}), $0, "
            f"saved {dollars(reply.saved_pico)}, call {show_id(reply.id)}"
        )
    usage = reply.usage
    tokens = "tokens unknown" if usage is None else f"{usage.input_tokens} in, {usage.output_tokens} out"
    status = "" if reply.status is Status.OK else f"{reply.status}; "
    first_s = reply.attempts[-1].first_byte_s if reply.attempts else None
    first = "" if first_s is None else f", first word after {lasting(first_s)}"
    return f"{status}{reply.target}, {tokens}, {dollars(reply.cost_pico)}{first}, call {show_id(reply.id)}"
