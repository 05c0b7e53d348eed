"""The compiler of template bodies: checks what they use, guards what could grow, and makes Python code."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from types import CodeType, MethodType
from typing import Any, NoReturn, cast

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.idtracking import VAR_LOAD_RESOLVE, VAR_LOAD_UNDEFINED
from jinja2.parser import Parser
from jinja2.runtime import Context as JinjaContext
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from promptkit.errors import TemplateError
from promptkit.templates.declarations import Path, path_of
from promptkit.templates.reference import EPOCH
from promptkit.templates.source import Source
from promptkit.templates.variables import SPEAKERS
from promptkit.types import Message, Role

from . import sandbox
from .filters import CONCAT, FILTERS, GUARDS, KEEP, LOOP, SCAN, SLICE, STEP, TESTS
from .sandbox import Context

_REFUSED: Mapping[type[nodes.Node], str] = {
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Import: "import",
    nodes.FromImport: "from ... import",
    nodes.ScopedEvalContextModifier: "autoescape",
}


_HIDDEN = frozenset({"self", "super", "varargs", "kwargs"})


@dataclass(frozen=True, slots=True)
class Compiled:
    """The code of a body and what was learned from it. Lines count from the body's first.

    `key` depends on the body and the epoch alone; what an include means is settled when a
    template is put together. `loads` are the names that it reads, with the line; `stores` those
    that it sets anywhere; `paths` are the ways into variables that it writes out.
    """

    key: str
    code: CodeType
    includes: Mapping[str, int] = field(default_factory=dict[str, int])
    has_messages: bool = False
    loads: Mapping[str, int] = field(default_factory=dict[str, int])
    stores: frozenset[str] = frozenset()
    paths: Mapping[Path, int] = field(default_factory=dict[Path, int])


def fresh(source: Source) -> nodes.Template:
    """Parse a source into a new tree, to be changed and compiled."""
    return _environment().parse(source.body)


def compile_tree(tree: nodes.Template, name: str) -> CodeType:
    """Compile a tree made of sources that compile; what could grow is guarded, as in any other."""
    guard(tree)
    tree.set_environment(_environment())
    return _environment().compile(tree, name, f"<{name}>")


def body_key(source: Source) -> str:
    """Return the name under which a body's code is kept."""
    return hashlib.sha256(f"{EPOCH}\n{source.body}".encode()).hexdigest()


@cache
def _environment() -> TemplateEnvironment:
    return TemplateEnvironment()


def parse(source: Source) -> nodes.Template:
    """Return the syntax tree of a source that compiles, as written: to be read, not to be changed."""
    return _tree(source.body)


@lru_cache(maxsize=64)
def _tree(body: str) -> nodes.Template:
    # Several readers walk a tree, and many templates include the same partials.
    return _environment().parse(body)


def compile_source(source: Source) -> Compiled:
    """Compile the body of a source.

    Raises:
        TemplateError: it isn't valid Jinja, or uses what isn't available, with file and line.
    """
    environment = _environment()
    key = body_key(source)
    try:
        tree = environment.parse(source.body)
        survey = _Survey(source)
        survey.walk(tree)
        guard(tree)
        tree.set_environment(environment)
        code = environment.compile(tree, key, f"<{key[:12]}>")
    except TemplateSyntaxError as cause:
        raise TemplateError(
            f"not a valid template: {cause.message}",
            file=source.file,
            line=cause.lineno + source.offset,
            remedy="Fix the Jinja tag or expression there.",
        ) from None
    except (RecursionError, MemoryError, OverflowError, SyntaxError, ValueError) as cause:
        # Python's own compiler refuses 20 loops in one another, or a number of 5,000 digits.
        raise TemplateError(
            f"too complex to compile: {cause}",
            file=source.file,
            remedy="Nest fewer loops and brackets, or split it with includes.",
        ) from None
    return Compiled(
        key, code, survey.includes, survey.has_messages, survey.loads, frozenset(survey.stores), survey.paths
    )


class _Survey:
    """One walk over a tree: what it includes, reads and sets, and whether all of it is available."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.includes: dict[str, int] = {}
        self.has_messages = False
        self.loads: dict[str, int] = {}
        self.stores: set[str] = set()
        self.paths: dict[Path, int] = {}
        self.stray: int | None = None

    def walk(self, tree: nodes.Template) -> None:
        """Survey the whole tree."""
        for child in tree.body:
            self._statement(child, captured=False)
        if self.has_messages and self.stray is not None:
            self.fail(
                "text outside a message",
                self.stray,
                'Put it between {% message "user" %} and {% endmessage %}, or in a comment {# #}.',
            )

    def fail(self, problem: str, line: int, remedy: str) -> NoReturn:
        """Refuse, at a line of the body."""
        raise TemplateError(problem, file=self.source.file, line=line + self.source.offset, remedy=remedy)

    def _statement(self, node: nodes.Node, *, captured: bool) -> None:
        self._check(node, captured=captured)
        inside = captured or isinstance(
            node, (nodes.CallBlock, nodes.Macro, nodes.AssignBlock, nodes.FilterBlock)
        )
        for child in node.iter_child_nodes():
            self._statement(child, captured=inside)

    def _check(self, node: nodes.Node, *, captured: bool) -> None:  # noqa: C901 - one row a kind of node
        match node:
            case nodes.Name():
                self._name(node)
            case nodes.NSRef():
                self.loads.setdefault(node.name, node.lineno)
            case nodes.Macro():
                self.stores.add(node.name)
            case nodes.TemplateData():
                self._data(node, captured=captured)
            case nodes.Include():
                self._include(node)
            case nodes.Call(node=nodes.ExtensionAttribute()):
                self.has_messages = True
            case nodes.Getattr() | nodes.Getitem():
                self._dotted(node)
            case nodes.Filter():
                self._known("filter", node.name, FILTERS, node.lineno)
            case nodes.Test():
                self._known("test", node.name, TESTS, node.lineno)
            case _ if type(node) in _REFUSED:
                self.fail(
                    f"{{% {_REFUSED[type(node)]} %}} isn't available",
                    node.lineno,
                    'Use {% include "name@1" %}.',
                )
            case _:
                pass

    def _name(self, node: nodes.Name) -> None:
        if node.name in _HIDDEN:
            self.fail(f"the name {node.name} isn't available", node.lineno, "Choose another name.")
        if node.ctx == "load":
            self.loads.setdefault(node.name, node.lineno)
        else:
            self.stores.add(node.name)

    def _dotted(self, node: nodes.Node) -> None:
        path = path_of(node)
        if path is not None:
            self.paths.setdefault(path, node.lineno)

    def _data(self, node: nodes.TemplateData, *, captured: bool) -> None:
        text = node.data.lstrip()
        if text and not captured and self.stray is None:
            self.stray = node.lineno + node.data[: len(node.data) - len(text)].count("\n")

    def _include(self, node: nodes.Include) -> None:
        target = node.template
        if not isinstance(target, nodes.Const) or not isinstance(target.value, str):
            self.fail(
                "an include must name its template as a plain text",
                node.lineno,
                'E.g. {% include "shared/voice@2" %}.',
            )
        if node.ignore_missing or not node.with_context:
            self.fail(
                "an include takes neither 'ignore missing' nor 'without context'",
                node.lineno,
                "Leave the words out.",
            )
        self.includes.setdefault(target.value, node.lineno)

    def _known(self, kind: str, name: str, known: Iterable[str], line: int) -> None:
        if name in known:
            return
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(sorted(known))}."
        self.fail(f"no {kind} named {name!r}", line, hint)


def is_message(node: nodes.CallBlock) -> bool:
    """Return whether a call block is a message tag."""
    return isinstance(node.call.node, nodes.ExtensionAttribute)


SETTINGS: Mapping[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "keep_trailing_newline": False,
    "newline_sequence": "\n",
    "autoescape": False,
    # Constants are folded at render time, where they are counted: folding while compiling isn't bounded.
    "optimized": False,
}
"""What shapes the text; part of the rendering epoch."""


GLOBALS: Mapping[str, Any] = {"range": sandbox.bounded_range, "namespace": Namespace}


class MessageTag(Extension):
    """`{% message "user" %}...{% endmessage %}`: the body goes to the meter's list, not to the output.

    Roles are literal words of the source and bodies never travel through text that is read
    again, so that no value can open, close or rename a message.
    """

    # Compiled templates on disk name the extension by this: it must not change when the module moves.
    identifier = "promptkit.message"
    tags = {"message"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the syntax tree of a source that compiles, as written: to be read, not to be changed."""
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
    """`{% messages history %}`: each entry of a conversation becomes a message, its content unchanged."""

    tags = {"messages"}  # noqa: RUF012 - as the base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the syntax tree of a source that compiles, as written: to be read, not to be changed."""
        line = next(parser.stream).lineno
        messages = parser.parse_expression()
        call = self.call_method("collect", [nodes.ContextReference(), messages], lineno=line)
        return nodes.ExprStmt(call).set_lineno(line)

    def collect(self, context: Context, messages: object) -> None:
        """Keep the messages; called by compiled templates."""
        meter = context.meter
        if meter.in_message:
            raise TemplateError("messages inside a message", remedy="Close the message before them.")
        for number, message in enumerate(meter.items(messages), start=1):
            meter.messages.append(_message(number, message))


def _message(number: int, message: object) -> Message:
    """Read an entry of a conversation as a message: a value never speaks as the system."""
    given = cast("dict[str, object]", message) if isinstance(message, dict) else dict[str, object]()
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

    def visit_Include(self, node: nodes.Include, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """Write an include: a template asks its environment, and text goes straight into a buffer."""
        assert isinstance(node.template, nodes.Const)  # noqa: S101 - the survey refuses any other
        call = (
            f"environment.include(context, {self.name!r}, {node.template.value!r},"
            f" {self.dump_local_context(frame)})"
        )
        self.writeline(
            f"yield from {call}" if frame.buffer is None else f"{frame.buffer}.extend({call})", node
        )

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if isinstance(node, nodes.TemplateData):
            return super()._output_child_to_const(node, frame, finalize)
        raise nodes.Impossible

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002 - Jinja's signature
        # Text goes straight through; all else is shown, counted or refused by the meter.
        self.write("(shown if (shown := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ARG002 - the same
        self.write(").__class__ is str else show(shown))")


@dataclass(frozen=True, slots=True)
class Include:
    """A compiled include; one without text only declares variables."""

    template: Template
    has_text: bool
    sets_names: bool


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """One template's environment: what its includes mean is its own.

    `parts` holds the compiled includes by (key of the including body, include as written).
    """

    code_generator_class = _Generator
    context_class = Context
    intercepted_binops = frozenset(sandbox.BINARY)

    def __init__(self) -> None:
        super().__init__(
            **SETTINGS, undefined=StrictUndefined, extensions=[MessageTag, MessagesTag], cache_size=0
        )
        self.filters = {**FILTERS, **GUARDS}
        self.tests = dict(TESTS)
        self.globals = dict(GLOBALS)
        self.parts: dict[tuple[str, str], Include] = {}

    def include(self, context: Context, parent: str, name: str, local: dict[str, Any]) -> Iterable[str]:
        """Return the output of an include; called by compiled templates."""
        included = self.parts[parent, name]
        if not included.has_text:
            return ()
        template = included.template
        # Only an include that sets names, or reads local ones, needs a context of its own.
        if local or included.sets_names:
            context = cast("Context", template.new_context(context.get_all(), shared=True, locals=local))
        return template.root_render_func(context)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only what is listed, and never what Jinja's own sandbox refuses."""
        return sandbox.allowed(obj, attr) and super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read an attribute; the values of a loop, read in every iteration, take a short path."""
        if obj.__class__ is LoopContext and attribute in sandbox.LOOP_VALUES:
            return getattr(obj, attribute)
        if obj.__class__ is dict and attribute in obj and attribute not in sandbox.ATTRIBUTES["dict"]:
            return cast("dict[str, Any]", obj)[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: JinjaContext, operator: str, left: Any, right: Any) -> Any:
        """Evaluate an operator whose result could grow."""
        return sandbox.binary(_ours(context), operator, left, right)

    def call(self, context: JinjaContext, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Make a call, counted and bounded."""
        if obj.__class__ is MethodType and obj.__func__ in _TAGS:
            return obj(*args, caller=kwargs["caller"]) if "caller" in kwargs else obj(*args)
        inner = (
            {key: kwargs[key] for key in kwargs if key not in _INNER} if _INNER & kwargs.keys() else kwargs
        )
        run = super().call
        return sandbox.call(_ours(context), obj, lambda: run(context, obj, *args, **kwargs), args, inner)


_TAGS = frozenset({MessageTag.collect, MessagesTag.collect})
_INNER = frozenset({"_loop_vars", "_block_vars"})


def _ours(context: JinjaContext) -> Context:
    assert isinstance(context, Context)  # noqa: S101 - context_class says so
    return context


def guard(tree: nodes.Template) -> None:
    """Guard a whole tree, in place."""
    _Guard().visit(tree)


class _Guard(NodeTransformer):
    """Visits children first, then hands a node to its rewrite, if there is one for its type."""

    def get_visitor(self, node: nodes.Node) -> Callable[..., Any]:  # noqa: ARG002 - one for all types
        return partial(_rewrite, self)


def _rewrite(visitor: NodeTransformer, node: nodes.Node) -> nodes.Node:
    # A weight is taken before the guards of the children are written in.
    weight = _weight_of(node)
    visitor.generic_visit(node)
    rewrite = _REWRITES.get(type(node))
    return node if rewrite is None else rewrite(node, weight)


def _weight_of(node: nodes.Node) -> int:
    if isinstance(node, (nodes.Template, nodes.Macro, nodes.CallBlock)):
        return _weight(node.body)
    if isinstance(node, nodes.For):
        return 1 + _weight(node.body) + _weight([] if node.test is None else [node.test])
    return 0


def _weight(body: Iterable[nodes.Node]) -> int:
    """Count the nodes that one evaluation of a body touches, without bodies that count for themselves."""
    return sum(1 for _ in _touched(body))


def _touched(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    pending = list(body)
    while pending:
        node = pending.pop()
        yield node
        skipped = ("body",) if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)) else ()
        pending.extend(node.iter_child_nodes(exclude=skipped))


def _charged(node: Any, weight: int) -> nodes.Node:
    """Count each evaluation of the body of a file, macro or call block."""
    node.body.insert(0, nodes.ExprStmt(_call(nodes.Const(weight, lineno=1), STEP), lineno=1))
    return node


def _loop(node: Any, weight: int) -> nodes.Node:
    """Count all iterations of a loop before the first."""
    node.iter = _call(node.iter, LOOP, nodes.Const(weight, lineno=node.lineno))
    return node


def _concat(node: Any, _weight: int) -> nodes.Node:
    return _call(node.nodes[0], CONCAT, *node.nodes[1:])


def _getitem(node: Any, _weight: int) -> nodes.Node:
    if not isinstance(node.arg, nodes.Slice):
        return node
    cuts = (node.arg.start, node.arg.stop, node.arg.step)
    return _call(node.node, SLICE, *(cut or nodes.Const(None, lineno=node.lineno) for cut in cuts))


def _operand(node: Any, _weight: int) -> nodes.Node:
    """Count an operand by its length: comparing and searching take that long."""
    if not isinstance(node.expr, nodes.Const):
        node.expr = _call(node.expr, SCAN)
    return node


def _container(node: Any, _weight: int) -> nodes.Node:
    """Count a list, tuple or mapping that is made here; not the target of an assignment."""
    return node if getattr(node, "ctx", "load") == "store" else _call(node, KEEP)


_REWRITES: Mapping[type[nodes.Node], Callable[[Any, int], nodes.Node]] = {
    nodes.Template: _charged,
    nodes.Macro: _charged,
    nodes.CallBlock: _charged,
    nodes.For: _loop,
    nodes.Concat: _concat,
    nodes.Getitem: _getitem,
    nodes.Operand: _operand,
    nodes.List: _container,
    nodes.Dict: _container,
    nodes.Tuple: _container,
}


def _call(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)
