"""Jinja, fenced in: a template reads what it is given, reaches nothing else, and ends within a time and a size."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateNotFound,
    UndefinedError,
    nodes,
    pass_context,
)
from jinja2 import TemplateSyntaxError as SyntaxMistake
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from penstock.errors import InvalidRequest, TemplateBroken

SECONDS = 2.0
SIZE = 1024 * 1024
"""Characters of what a template says at most, and of a text on the way there."""
WRAPPING = 16
"""Of which share a text may be that is wrapped: that takes time by the square of its longest word."""
ENDING = ".j2"
VARIABLES = "template_variables"
UNFIT = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a template raises that was given a number where it expected a list."""
OURS = (Environment, Context, nodes.EvalContext)
"""What filters are given by Jinja itself."""
_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{7,}|\*)|\{[^{}:]*:[^{}]*(?:\d{7,}|\{)")
"""A place in a format that asks for very many characters, or lets a value say how many."""
_PADDING = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs"})
_until: ContextVar[float] = ContextVar("until")


class TooMuch(Exception):
    """A template takes too long, or says too much."""


class Sandbox:
    """The templates of a directory, compiled when they are first named. Called from any thread."""

    def __init__(self, directory: Path, kept: int, *, reload: bool) -> None:
        self._environment = _Environment(
            loader=FileSystemLoader(directory),
            undefined=StrictUndefined,
            cache_size=kept,
            auto_reload=reload,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, name: str, variables: dict[str, Any]) -> str:
        """What the template says. Raises ``InvalidRequest`` or ``TemplateBroken``."""
        _until.set(time.monotonic() + SECONDS)
        template = self._template(name)
        try:
            return _joined(template.generate(variables))
        except UndefinedError as error:
            raise _unfit(f"{error.message} in the template {name!r}.") from None
        except TooMuch as error:
            raise _unfit(f"with them the template {name!r} {error}.") from None
        except SyntaxMistake as error:
            raise _broken(error.name or name, f"line {error.lineno}: {error.message}") from None
        except TemplateNotFound as error:
            raise _broken(name, f"it includes {error.name!r}, which is not there") from None
        except (TemplateError, UnicodeDecodeError) as error:
            raise _broken(name, str(error)) from None
        except UNFIT as error:
            raise _unfit(f"they do not fit the template {name!r}: {str(error)[:200]}.") from None

    def _template(self, name: str) -> Template:
        try:
            try:
                return self._environment.get_template(name)
            except TemplateNotFound:
                return self._environment.get_template(name + ENDING)
        except TemplateNotFound:
            raise InvalidRequest(f"template: there is no template {name!r} here.", param="template") from None
        except SyntaxMistake as error:
            raise _broken(name, f"line {error.lineno}: {error.message}") from None
        except (OSError, UnicodeDecodeError, RecursionError) as error:
            raise _broken(name, str(error)) from None


def _joined(pieces: Iterable[str]) -> str:
    """The pieces as one text, which JSON can carry."""
    said, size = [], 0
    for piece in pieces:
        size += len(piece)
        _check(size)
        said.append(piece)
    text = "".join(said)
    text.encode()  # a half of a surrogate pair, which a filter may have cut off, is none
    return text


def _check(size: int = 0) -> None:
    if size > SIZE:
        raise TooMuch(f"says more than {SIZE} characters")
    if time.monotonic() > _until.get(0.0):
        raise TooMuch(f"takes longer than {SECONDS:g} seconds")


def _unfit(words: str) -> InvalidRequest:
    return InvalidRequest(f"{VARIABLES}: {words}", param=VARIABLES)


def _broken(name: str, why: str) -> TemplateBroken:
    return TemplateBroken(f"the template {name!r} is broken: {why}", param="template")


class _Counted:
    """Something to loop over, with a look at the clock at each step."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        for each in self._inner:
            _check()
            yield each

    def __len__(self) -> int:
        return len(self._inner)


@pass_context
def _counted(_: Context, inner: Any) -> Any:
    return _Counted(inner) if not isinstance(inner, StrictUndefined) else inner


def _bounded(filter: Callable[..., Any], size_of: Callable[..., int]) -> Callable[..., Any]:
    """A filter that is not begun if its answer would be too large."""

    @wraps(filter)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _check(size_of(*(arg for arg in args if not isinstance(arg, OURS))))
        return filter(*args, **kwargs)

    return bounded


def _largest(_: Any, *numbers: Any, **__: Any) -> int:
    return max((number for number in numbers if isinstance(number, int)), default=0)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, Sized) else 0


def _joins(values: Any, between: Any = "", *_: Any) -> int:
    return _length(values) * _length(between)


def _replaces(text: Any, old: Any = "", new: Any = "", *_: Any) -> int:
    return (_length(text) + 1) * _length(new) // max(_length(old), 1)


def _wraps(text: Any, *numbers: Any, **_: Any) -> int:
    return _length(text) * WRAPPING


def _formats(text: Any, *_: Any) -> int:
    return SIZE + 1 if isinstance(text, str) and _WIDE.search(text) else 0


@pass_context
def _concatenated(_: Context, parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    _check(sum(map(len, texts)))
    return "".join(texts)


class _Bounding(NodeTransformer):
    """Has loops and ``~`` go through filters of ours."""

    def visit_For(self, loop: nodes.For) -> nodes.Node:  # noqa: N802 - a name of Jinja's
        """Count the steps."""
        self.generic_visit(loop)
        loop.iter = nodes.Filter(loop.iter, " counted", [], [], None, None, lineno=loop.lineno)
        return loop

    def visit_Concat(self, concat: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Add the lengths up before the text is made."""
        self.generic_visit(concat)
        parts = nodes.List(concat.nodes, lineno=concat.lineno)
        return nodes.Filter(parts, " concatenated", [], [], None, None, lineno=concat.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, whose loops, calls and operators ask whether there is time and room."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        sizes: dict[str, Callable[..., int]] = dict.fromkeys(
            ("batch", "center", "indent", "slice", "truncate"), _largest
        )
        sizes |= {"wordwrap": _wraps, "join": _joins, "replace": _replaces, "format": _formats}
        for name, size_of in sizes.items():
            self.filters[name] = _bounded(self.filters[name], size_of)
        self.filters |= {" counted": _counted, " concatenated": _concatenated}

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        _Bounding().visit(source)
        source.set_environment(self)
        return super()._generate(source, *args, **kwargs)

    def call(self, context: Context, callee: Any, /, *args: Any, **kwargs: Any) -> Any:
        _check()
        method = getattr(callee, "__wrapped__", callee)  # Jinja wraps `format`
        name, of = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if name in _PADDING or callee is self.globals["lipsum"]:
            _check(_largest(None, *args, *kwargs.values()))
        elif isinstance(of, str):
            sizes = {"join": lambda: _joins(*args, of), "replace": lambda: _replaces(of, *args)}
            _check(sizes.get(name, lambda: _formats(of) if name.startswith("format") else 0)())
        return super().call(context, callee, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _check(_length(left) + _length(right))
        elif operator == "*":
            numbers = [n for n in (left, right) if isinstance(n, int)]
            _check(max(_length(left), _length(right)) * max(numbers, default=1) + _bits(left) + _bits(right))
        elif operator == "%":
            _check(_formats(left))
        elif isinstance(right, int):
            _check(_bits(left) * abs(right))
        return super().call_binop(context, operator, left, right)


def _bits(number: Any) -> int:
    return number.bit_length() if isinstance(number, int) else 0
