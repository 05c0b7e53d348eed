"""The Jinja environment of a skeleton: sandboxed, strict, deterministic, with messages out of band."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Final, cast

from jinja2 import StrictUndefined, Template, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.idtracking import VAR_LOAD_RESOLVE, VAR_LOAD_UNDEFINED
from jinja2.parser import Parser
from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from promptkit.errors import TemplateError
from promptkit.types import Message, Role

from . import methods, operators
from .filters import FILTERS, GUARDS, TESTS
from .meter import Context
from .variables import SPEAKERS

SETTINGS: Final[Mapping[str, Any]] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": False,
    "newline_sequence": "\n",
    "autoescape": False,
    # Constants are folded at render time, where they are counted: folding while compiling isn't bounded.
    "optimized": False,
}
"""What shapes the text; part of the rendering epoch."""

GLOBALS: Final[Mapping[str, Any]] = {"range": methods.bounded_range, "namespace": Namespace}


class MessageTag(Extension):
    """`{% message "user" %}...{% endmessage %}`: the body goes to the meter's list, not to the output.

    Roles are literal words of the source and bodies never travel through text that is read
    again, so that no value can open, close or rename a message.
    """

    # Compiled templates on disk name the extension by this: it must not change when the module moves.
    identifier = "promptkit.message"
    tags = {"message"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the tag into a call block."""
        line = next(parser.stream).lineno
        role = parser.parse_expression()
        if not isinstance(role, nodes.Const) or role.value not in set(Role):
            parser.fail(f"a message's role is one of {_roles()}{_near(role)}", line)
        body = parser.parse_statements(("name:endmessage",), drop_needle=True)
        call = self.call_method("collect", [nodes.ContextReference(), role])
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def collect(self, context: Context, role: str, caller: Callable[[], str]) -> str:
        """Keep a message; called by compiled templates."""
        meter = context.meter
        if meter.in_message:
            raise TemplateError("a message inside a message", remedy="Close the first one before it.")
        meter.in_message = True
        content = caller().strip()
        meter.in_message = False
        if not content:
            raise TemplateError(
                f"this {role} message is empty with these values",
                remedy="Put the condition around the whole message block.",
            )
        meter.messages.append(Message(Role(role), content))
        return ""


class MessagesTag(Extension):
    """`{% messages history %}`: each turn of a conversation becomes a message, its content as it is."""

    tags = {"messages"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the tag into a call."""
        line = next(parser.stream).lineno
        turns = parser.parse_expression()
        call = self.call_method("collect", [nodes.ContextReference(), turns], lineno=line)
        return nodes.ExprStmt(call).set_lineno(line)

    def collect(self, context: Context, turns: object) -> None:
        """Keep the turns; called by compiled templates."""
        meter = context.meter
        if meter.in_message:
            raise TemplateError("messages inside a message", remedy="Close the message before them.")
        for number, turn in enumerate(meter.items(turns), start=1):
            meter.messages.append(_message(number, turn))


def _message(number: int, turn: object) -> Message:
    """One turn as a message: a value never speaks as the system."""
    given = cast("dict[str, object]", turn) if isinstance(turn, dict) else dict[str, object]()
    role, content = given.get("role"), given.get("content")
    if role not in SPEAKERS or not isinstance(content, str) or not content.strip():
        raise TemplateError(
            f"message {number} of a conversation has no role ({' or '.join(SPEAKERS)}) or no content",
            remedy='Declare the variable with type = "messages", or give {"role": ..., "content": ...} each.',
        )
    return Message(Role(role), content)


def _roles() -> str:
    return ", ".join(f'"{role}"' for role in Role)


def _near(role: nodes.Expr) -> str:
    word = role.value if isinstance(role, nodes.Const) else role.name if isinstance(role, nodes.Name) else ""
    close = difflib.get_close_matches(str(word), list(Role), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


class _Generator(CodeGenerator):
    """Writes captured output through the meter."""

    def write_commons(self) -> None:
        super().write_commons()
        self.writeline("meter = context.meter")
        self.writeline("concat = meter.concat")
        self.writeline("show = meter.text")

    def enter_frame(self, frame: Frame) -> None:
        # Jinja takes a name that is set somewhere for unknown before that in inner scopes, even where
        # the caller gave it: {% set brand %}{{ brand }}!{% endset %} would miss brand.
        symbols = frame.symbols
        for name, target in symbols.refs.items():
            if symbols.loads.get(target) == (VAR_LOAD_UNDEFINED, None):
                symbols.loads[target] = (VAR_LOAD_RESOLVE, name)
        super().enter_frame(frame)

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if isinstance(node, nodes.TemplateData):
            return super()._output_child_to_const(node, frame, finalize)
        raise nodes.Impossible

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002 - Jinja's signature
        # Text goes straight through; all else is shown, counted or refused by the meter.
        self.write("(shown if (shown := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002 - the same
        self.write(").__class__ is str else show(shown))")


class SkeletonEnvironment(ImmutableSandboxedEnvironment):
    """One skeleton's environment: what its includes mean is its own.

    `parts` holds the compiled includes by (key of the including body, include as written).
    """

    code_generator_class = _Generator
    context_class = Context
    intercepted_binops = frozenset(operators.BINARY)

    def __init__(self) -> None:
        super().__init__(
            **SETTINGS, undefined=StrictUndefined, extensions=[MessageTag, MessagesTag], cache_size=0
        )
        self.filters = {**FILTERS, **GUARDS}
        self.tests = dict(TESTS)
        self.globals = dict(GLOBALS)
        self.parts: dict[tuple[str, str], Template] = {}

    def get_template(self, name: str | Template, parent: str | None = None, globals: Any = None) -> Template:  # noqa: A002, ARG002 - Jinja's names
        """An include, as the skeleton resolved it."""
        return self.parts[str(parent), str(name)]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only what is listed, and never what Jinja's own sandbox refuses."""
        return methods.allowed(obj, attr) and super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A dot: what loops are asked for in every turn goes a short way."""
        if obj.__class__ is LoopContext and attribute in methods.LOOP_VALUES:
            return getattr(obj, attribute)
        if obj.__class__ is dict and attribute in obj and attribute not in methods.ATTRIBUTES["dict"]:
            return cast("dict[str, Any]", obj)[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: JinjaContext, operator: str, left: Any, right: Any) -> Any:
        """An operator that could grow."""
        return operators.binary(_ours(context), operator, left, right)

    def call(self, context: JinjaContext, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call, counted and bounded."""
        if obj.__class__ is MethodType and obj.__func__ in _TAGS:
            return obj(*args, caller=kwargs["caller"]) if "caller" in kwargs else obj(*args)
        inner = (
            {key: kwargs[key] for key in kwargs if key not in _INNER} if _INNER & kwargs.keys() else kwargs
        )
        run = super().call
        return methods.call(_ours(context), obj, lambda: run(context, obj, *args, **kwargs), args, inner)


_TAGS: Final = frozenset({MessageTag.collect, MessagesTag.collect})
_INNER: Final = frozenset({"_loop_vars", "_block_vars"})


def _ours(context: JinjaContext) -> Context:
    assert isinstance(context, Context)  # noqa: S101 - context_class says so
    return context
