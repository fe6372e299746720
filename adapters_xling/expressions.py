"""Compositions as a person writes them on one line: ``stack(anli_plus, slot)``, ``average(mnli:0.7, squad1:0.3)``,
``arithmetic(+a:1, -b:0.5)``, ``ties(a, b, density=0.3)``, ``fuse(a, b)``, ``alone(slot)``.

An expression is read in two steps: its form (every mistake has a position), then what it means, with names looked up by
whoever knows the zoo. `composition.describe` writes what is read here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .composition import leaves
from .errors import ConfigError, XlingError
from .spec import (
    Alone,
    Arithmetic,
    Average,
    Base,
    Dare,
    Fresh,
    Fuse,
    Init,
    Merge,
    Merged,
    Route,
    Slot,
    Stack,
    Ties,
    Use,
    Warm,
    WeightAverage,
)

MAX_CHARACTERS = 4000
MAX_DEPTH = 12
LANGUAGE = "{language}"
"""What stands for the code of the language at hand, inside a name."""

MERGES = ("average", "arithmetic", "ties", "dare")
FUNCTIONS = ("stack", "average", "fuse", "alone", "merge", "arithmetic", "ties", "dare")
_OPTIONS = {"ties": ("density",), "dare": ("density", "seed")}
_NAME = re.compile(r"(?:[A-Za-z0-9_.]|\{language\})(?:[A-Za-z0-9_.-]|\{language\})*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

Resolve = Callable[[str], str]
"""Turns the name of an entry into its key, or raises an XlingError that says why not."""


class ExpressionError(ConfigError):
    """A composition that cannot be read; the message shows the line with a caret under the spot.

    Attributes:
        position: index of the character, from 0.
    """

    def __init__(self, text: str, position: int, why: str) -> None:
        self.position = min(position, len(text))
        before, after = text[max(0, self.position - 60) : self.position], text[self.position : self.position + 40]
        line = re.sub(r"[^\x20-\x7e]", "?", before + after)
        super().__init__(f"{why} (at character {self.position + 1})\n  {line}\n  {' ' * len(before)}^")


@dataclass(frozen=True)
class _Argument:
    """One part of a call: its sign and weight where they were written."""

    node: _Node
    start: int
    sign: str | None
    weight: float | None


@dataclass(frozen=True)
class _Node:
    """A name, or a call when it has arguments."""

    name: str
    start: int
    end: int
    arguments: tuple[_Argument, ...] | None = None
    options: dict[str, tuple[float, int]] = field(default_factory=dict)


def parse_route(text: str, *, resolve: Resolve = str, slot: Route = Slot(), language: str | None = None) -> Route:  # noqa: B008
    """Read what a forward pass runs over.

    `average` is one of outputs here, computed in every pass; `merge(average(…))` is one of weights. The other ways of
    merging need no `merge(…)` around them.

    Args:
        text: the expression.
        resolve: looks names up; by default they are keys already.
        slot: what ``slot`` means: the run's own when training, the entry at hand when evaluating.
        language: replaces ``{language}`` in names.

    Raises:
        ExpressionError: naming the position of what is wrong, names nobody knows included.

    >>> parse_route("stack(anli_plus, slot)")
    Stack(parts=(Use(entry='anli_plus'), Slot()))
    """
    return _Meaning(text, resolve, slot, language).route(_read(text))


def parse_ground(text: str, *, resolve: Resolve = str) -> Route:
    """Read the route of a run that stands on a composition: its own slot goes on top, unless the expression places it.

    Raises:
        ExpressionError: naming the position of what is wrong.

    >>> parse_ground("stack(a, b)") == parse_route("stack(a, b, slot)")
    True
    """
    route = parse_route(text, resolve=resolve)
    if any(isinstance(leaf, Slot) for leaf in leaves(route)):
        return route
    if isinstance(route, Base):
        return Slot()
    below = route.parts if isinstance(route, Stack) else (route,)
    return Stack(parts=(*below, Slot()))


def parse_init(text: str, *, resolve: Resolve = str) -> Init:
    """Read how a slot starts: the name of an entry, a merge of several, or ``fresh``.

    Raises:
        ExpressionError: naming the position of what is wrong.

    >>> parse_init("average(a, b)")
    WeightAverage(entries=('a', 'b'), weights=(0.5, 0.5))
    """
    return _Meaning(text, resolve, Slot(), None).init(_read(text))


def parse_merge(text: str, *, resolve: Resolve = str) -> Merge:
    """Read a merge of entries' weights.

    Raises:
        ExpressionError: naming the position of what is wrong; also for what is no merge.
    """
    found = parse_init(text, resolve=resolve)
    if not isinstance(found, Merge):
        raise ExpressionError(
            text, 0, f"this names no merge; give one of {', '.join(MERGES)}, e.g. average(a:0.7, b:0.3)"
        )
    return found


def is_per_language(text: str) -> bool:
    """Whether an expression names other entries for every language."""
    return LANGUAGE in text


# --- form ---------------------------------------------------------------------------------------------------------


def _read(text: str) -> _Node:
    if not isinstance(text, str):
        raise ConfigError(f"an expression is text, such as 'stack(NAME, slot)'; got {text!r:.100}")
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(text, MAX_CHARACTERS, f"an expression has at most {MAX_CHARACTERS} characters")
    reader = _Reader(text)
    node = reader.node(0)
    reader.blanks()
    if reader.at < len(text):
        raise reader.wrong("nothing may follow the expression" + _closing(text, reader.at))
    return node


def _closing(text: str, at: int) -> str:
    return "; this bracket closes nothing" if text[at] == ")" else ""


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def wrong(self, why: str, at: int | None = None) -> ExpressionError:
        return ExpressionError(self.text, self.at if at is None else at, why)

    def blanks(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def next(self) -> str:
        """The next mark, or "" at a name or the end."""
        self.blanks()
        mark = self.text[self.at : self.at + 1]
        return mark if mark in "(),:=+-" else ""

    def node(self, depth: int) -> _Node:
        self.blanks()
        start = self.at
        if depth > MAX_DEPTH:
            raise self.wrong(f"an expression is at most {MAX_DEPTH} levels deep")
        found = _NAME.match(self.text, start)
        if found is None:
            what = "the expression ends here" if start == len(self.text) else f"{self.text[start]!r} begins no name"
            raise self.wrong(f"{what}; expected the name of an entry, slot, base, or one of {', '.join(FUNCTIONS)}")
        self.at = found.end()
        if self.next() != "(":
            return _Node(found[0], start, found.end())
        if found[0] not in FUNCTIONS:
            close = difflib.get_close_matches(found[0], FUNCTIONS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise self.wrong(f"unknown composition {found[0]!r}.{hint} Known: {', '.join(FUNCTIONS)}", start)
        opened = self.at
        self.at += 1
        arguments, options = list[_Argument](), dict[str, tuple[float, int]]()
        if self.next() == ")":
            raise self.wrong(f"{found[0]} of nothing: name the entries it is made of")
        while True:
            self._argument(found[0], depth, arguments, options)
            mark = self.next()
            if mark == ")":
                self.at += 1
                return _Node(found[0], start, found.end(), tuple(arguments), options)
            if mark != ",":
                if self.at == len(self.text):
                    raise self.wrong("this bracket is never closed", opened)
                raise self.wrong("expected ',' or ')'")
            self.at += 1

    def _argument(
        self, call: str, depth: int, arguments: list[_Argument], options: dict[str, tuple[float, int]]
    ) -> None:
        sign = self.next()
        start = self.at
        if sign in ("+", "-"):
            self.at += 1
        else:
            sign = ""
        node = self.node(depth + 1)
        mark = self.next()
        if mark == "=":
            known = _OPTIONS.get(call, ())
            if sign or node.arguments is not None or node.name not in known:
                what = f"it takes {' and '.join(known)}" if known else "it takes none"
                raise self.wrong(f"{node.name!r} is not a setting of {call}; {what}", start)
            if node.name in options:
                raise self.wrong(f"{node.name} is given twice", start)
            self.at += 1
            options[node.name] = (self._number(f"the value of {node.name}"), start)
            return
        if options:
            raise self.wrong("settings stand behind all entries", start)
        weight = None
        if mark == ":":
            self.at += 1
            weight = self._number("a weight")
        arguments.append(_Argument(node, start, sign or None, weight))

    def _number(self, what: str) -> float:
        self.blanks()
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            raise self.wrong(f"expected {what}, a number")
        self.at, start = found.end(), self.at
        value = float(found[0])
        if _NAME.match(self.text, self.at) or value in (float("inf"), float("-inf")):
            raise self.wrong(f"expected {what}, a number", start)
        return value


# --- meaning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Meaning:
    """Turns the form of an expression into data."""

    text: str
    resolve: Resolve
    slot: Route
    language: str | None

    def wrong(self, at: int, why: str) -> ExpressionError:
        return ExpressionError(self.text, at, why)

    def key(self, node: _Node) -> str:
        """Key of the entry a plain name means."""
        if node.arguments is not None:
            raise self.wrong(node.start, f"expected the name of an entry, found {node.name}(…)")
        if node.name in ("slot", "base", "fresh"):
            raise self.wrong(node.start, f"{node.name!r} is not an entry; name one")
        if LANGUAGE in node.name and self.language is None:
            at = node.start + node.name.index(LANGUAGE)
            raise self.wrong(at, f"{LANGUAGE} means the language that is evaluated; here there is none")
        try:
            return self.resolve(node.name.replace(LANGUAGE, self.language or ""))
        except ExpressionError:
            raise
        except XlingError as err:
            raise self.wrong(node.start, str(err)) from err

    def init(self, node: _Node) -> Init:
        if node.arguments is None:
            return Fresh() if node.name == "fresh" else Warm(entry=self.key(node))
        if node.name not in MERGES:
            raise self.wrong(
                node.start, f"{node.name} is a route, not weights to start from; valid: {', '.join(MERGES)}"
            )
        return self.merge(node)

    def merge(self, node: _Node) -> Merge:
        arguments = node.arguments or ()
        keys = []
        for argument in arguments:
            if argument.node.name == "slot" and argument.node.arguments is None and isinstance(self.slot, Use):
                keys.append(self.slot.entry)  # the entry at hand
            else:
                keys.append(self.key(argument.node))
            if keys[-1] in keys[:-1]:
                raise self.wrong(argument.start, f"{keys[-1]} is named twice; give it once, with one weight")
        with self._named(node):
            names, options = tuple(keys), {name: value for name, (value, _) in node.options.items()}
            if node.name == "arithmetic":
                return Arithmetic(entries=names, weights=self._coefficients(arguments))
            self._no_signs(node)
            if node.name == "average":
                return WeightAverage(entries=names, weights=self._weights(node, 1 / len(arguments)))
            density, at = node.options.get("density", (1.0, node.start))
            if not 0 < density <= 1:
                raise self.wrong(at, f"density is {density:g}; valid is a share above 0, up to 1")
            if node.name == "ties":
                return Ties(entries=names, weights=self._weights(node, 1.0), **options)
            seed, at = node.options.get("seed", (0.0, node.start))
            if seed < 0 or not seed.is_integer():
                raise self.wrong(at, f"seed is {seed:g}; valid is a whole number from 0")
            options = {**options, "seed": int(seed)}
            return Dare(entries=names, weights=self._weights(node, 1.0), **options)  # type: ignore[arg-type]
        raise AssertionError

    def route(self, node: _Node) -> Route:
        if node.arguments is None:
            plain = {"slot": self.slot, "base": Base()}
            if node.name == "fresh":
                raise self.wrong(node.start, "'fresh' is a way to start, not a route")
            return plain[node.name] if node.name in plain else Use(entry=self.key(node))
        if node.name in ("arithmetic", "ties", "dare"):
            return Merged(merge=self.merge(node))
        if node.name in ("merge", "alone"):
            return self._single(node)
        self._no_signs(node)
        parts = tuple(self.route(argument.node) for argument in node.arguments)
        with self._named(node):
            if node.name == "average":
                if len(parts) < 2:
                    raise self.wrong(node.start, "an average is of two parts or more; write the part alone")
                return Average(parts=parts, weights=self._weights(node, 1 / len(parts)))
            for argument in node.arguments:
                if argument.weight is not None:
                    raise self.wrong(argument.node.end, f"the parts of {node.name} have no weights")
            if node.name == "stack":
                return Stack(parts=parts) if len(parts) > 1 else parts[0]
            if len(parts) < 2:
                raise self.wrong(node.start, "a fusion is of two entries or more")
            return Fuse(parts=parts)
        raise AssertionError

    def _single(self, node: _Node) -> Route:
        """`merge(…)` and `alone(…)`, which are about one thing."""
        arguments = node.arguments or ()
        if len(arguments) != 1 or arguments[0].weight is not None or arguments[0].sign:
            raise self.wrong(node.start, f"{node.name} takes one part, without weight or sign")
        inner = arguments[0].node
        if node.name == "merge":
            if inner.name not in MERGES or inner.arguments is None:
                raise self.wrong(inner.start, f"merge takes one of {', '.join(MERGES)}, e.g. merge(average(a, b))")
            return Merged(merge=self.merge(inner))
        if inner.name == "slot" and inner.arguments is None:
            if not isinstance(self.slot, Use):
                raise self.wrong(inner.start, "the slot of a run stands alone already; alone is for entries")
            return Alone(entry=self.slot.entry)
        return Alone(entry=self.key(inner))

    def _no_signs(self, node: _Node) -> None:
        for argument in node.arguments or ():
            if argument.sign:
                raise self.wrong(argument.start, f"{node.name} knows no signs; see arithmetic(+a:1, -b:0.5)")

    def _weights(self, node: _Node, default: float) -> tuple[float, ...]:
        arguments = node.arguments or ()
        given = [argument.weight is not None for argument in arguments]
        if any(given) and not all(given):
            lacking = arguments[given.index(False)]
            raise self.wrong(lacking.node.end, f"{lacking.node.name} has no weight; give one to all or none")
        for argument in arguments:
            if argument.weight is not None and not argument.weight:
                raise self.wrong(argument.node.end, "a weight of 0: leave the entry out")
        return tuple(default if argument.weight is None else argument.weight for argument in arguments)

    def _coefficients(self, arguments: tuple[_Argument, ...]) -> tuple[float, ...]:
        found = []
        for argument in arguments:
            value = 1.0 if argument.weight is None else argument.weight
            if not value:
                raise self.wrong(argument.node.end, "a coefficient of 0: leave the entry out")
            found.append(-value if argument.sign == "-" else value)
        return tuple(found)

    def _named(self, node: _Node) -> _At:
        return _At(self.text, node.start)


@dataclass(frozen=True)
class _At:
    """Gives an error that data raises about itself the position of the call that made it."""

    text: str
    position: int

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError) and not isinstance(error, ExpressionError):
            raise ExpressionError(self.text, self.position, str(error)) from error


def names_in(text: str) -> Iterator[str]:
    """Names of entries in an expression, as written.

    Raises:
        ExpressionError: naming the position of what is wrong with its form.

    >>> list(names_in("average(a:0.7, b:0.3)"))
    ['a', 'b']
    """

    def below(node: _Node) -> Iterator[str]:
        if node.arguments is None:
            if node.name not in ("slot", "base", "fresh"):
                yield node.name
            return
        for argument in node.arguments:
            yield from below(argument.node)

    return below(_read(text))
