"""The program's half of a hearing: it evaluates what the judge asks, in the program's process.

Plain data goes over as it is; of anything else the judge gets a number, by which it may ask on.
What the judge lends (functions, objects of classes that tests define) is a :class:`Guest` here.
Nothing said here is believed: the outside decodes it strictly.
"""

from __future__ import annotations

import _io
import _json
import builtins
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_DEPTH = 150
MAX_PRINTED = 100_000
MUTABLE = (list, dict, set, bytearray)
MADE = {
    "decimal.Decimal": lambda value: [str(value)],
    "fractions.Fraction": lambda value: [value.numerator, value.denominator],
    "datetime.date": lambda value: [value.year, value.month, value.day],
    "datetime.datetime": lambda value: [
        value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond,
    ],
    "datetime.time": lambda value: [value.hour, value.minute, value.second, value.microsecond],
    "uuid.UUID": lambda value: [str(value)],
    "pathlib.PosixPath": lambda value: [str(value)],
    "datetime.timedelta": lambda value: [value.days, value.seconds, value.microseconds],
    "collections.deque": lambda value: [list(value)],
    "numpy.array": lambda value: [value.tolist(), str(value.dtype)],
    "builtins.range": lambda value: [value.start, value.stop, value.step],
}  # fmt: skip
"""Classes of the standard library that go over by value, with their constructor's arguments."""
HEAP_TYPE = 1 << 9
"""The flag of classes that Python code defines; an iterator of such a class is also an object."""
quoted = _json.encode_basestring_ascii


def main(job: dict, space: dict, send: Callable, receive: Callable) -> None:
    """Define the program, then answer until the judge has heard enough."""
    witness = Witness(job, space, send, receive)
    sys.stdout = witness.output
    try:
        exec(job["compiled"](job["program"], space), space)
        names = job["names"]
        if job["star"]:
            names = [*names, *(name for name in space if name[0] != "_" and name not in names)]
        values = [
            f"[{quoted(name)}, {witness.told(space[name])}]" for name in names if name in space
        ]
        send(f'["defined", [{", ".join(values)}]]')
    except BaseException as error:
        send(witness.raised(error))
        posix._exit(0)
    while True:
        witness.reply()


class Witness:
    """What it has told the judge about, and how it answers."""

    def __init__(self, job: dict, space: dict, send: Callable, receive: Callable) -> None:
        self.send, self.receive, self.name = send, receive, job["name"]
        self.held: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.changes: list[str] = []
        self.buffer = _io.BytesIO()
        self.output = _io.TextIOWrapper(self.buffer, encoding="utf-8", write_through=True)
        self.scope: dict[str, Any] = {
            "inf": float("inf"),
            "nan": float("nan"),
            "_o": self.held.__getitem__,
            "_call": self.call,
            "_guest": lambda number: Guest(self, number),
            "_made": made,
            "_text": _io.StringIO,
            "_get": getattr,
            "_set": setattr,
            "_unset": delattr,
            "_item": _set_item,
            "_drop": _drop_item,
            "_same": _same,
            "_plain": self.plain,
            "_await": _await,
            "_send": _send,
            "_throw": _throw,
            "_end": _end,
            "_patch": self.patch,
            "_leave": _leave,
        }
        self.patched: dict[tuple[str, str], Any] = {}

    def reply(self) -> tuple[str, str]:
        """Answer questions until something else comes: (what, its source)."""
        while True:
            kind, _, source = self.receive().partition(" ")
            if kind != "ask":
                return kind, source
            self.changes = []
            try:
                told = self.told(eval(source, self.scope))
                text = f'["value", {told}, [{", ".join(self.changes)}], {self.printed()}]'
            except BaseException as error:
                text = self.raised(error)
            self.send(text)

    def printed(self) -> str:
        """What the program printed since the last answer."""
        if not self.buffer.tell():
            return '""'
        text = self.buffer.getvalue().decode("utf-8", "replace")[:MAX_PRINTED]
        self.buffer.seek(0)
        self.buffer.truncate()
        return quoted(text)

    def call(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Call a function; lists and the like that it changes in place are told."""
        handed = [*args, *kwargs.values()]
        before = [self.told(value) if type(value) in MUTABLE else None for value in handed]
        try:
            return function(*args, **kwargs)
        finally:
            changes = []
            for number, (value, told) in enumerate(zip(handed, before)):  # noqa: B905
                if told is not None:
                    after = self.told(value)
                    if after != told:
                        changes.append(f"[{number}, {after}]")
            self.changes = changes

    def raised(self, error: BaseException) -> str:
        """The message that the program raised an error."""
        kinds = ", ".join(
            quoted(f"{kind.__module__}.{kind.__qualname__}") for kind in _kinds(error)
        )
        try:
            args = self.told(list(error.args))
            text = str(error)
        except BaseException:
            args, text = self.told([]), ""
        line, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "program.py":
                line = trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, SyntaxError):
            line, text = error.lineno or 0, str(error.msg)
        number = self.number_of(error)
        changes = ", ".join(self.changes)
        return (
            f'["raised", [{kinds}], {args}, {quoted(text[:2000])}, {line:d}, {number}, '
            f"[{changes}], {self.printed()}]"
        )

    def number_of(self, value: object) -> int:
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.held)
            self.held.append(value)
        return number

    def told(self, value: Any, depth: int = 0) -> str:
        """A value as JSON: plain data as it is, anything else by its number and kind."""
        if depth > MAX_DEPTH:
            raise RecursionError("nested too deeply")
        if value is None or value is True or value is False:
            return {None: "null", True: "true", False: "false"}[value]
        kind = type(value)
        if kind is Guest:
            return f'["guest", {Guest.number_of(value):d}]'
        if isinstance(value, PLAIN):
            if kind in PLAIN or kind.__module__ != self.name:
                return self.told_plain(value, depth)
            if not isinstance(value, MUTABLE):
                plain = self.told_plain(value, depth)
                return f'["data", {self.number_of(value)}, {quoted(kind.__name__)}, {plain}]'
        numpy: Any = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return self.told_array(numpy, value, depth + 1)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in MADE and getattr(value, "tzinfo", None) is None:
            return f'["made", {quoted(name)}, {self.told(MADE[name](value), depth + 1)}]'
        return f'["thing", {self.number_of(value)}, {quoted(_sort(value))}, {_named(value)}]'

    def told_array(self, numpy: Any, value: Any, depth: int) -> str:
        """An array of numbers or texts as one; any other, and NumPy's scalars, as Python's own."""
        items = self.told(value.tolist(), depth)
        if type(value) is not numpy.ndarray or value.dtype.kind not in "biufcU":
            return items
        return f'["made", "numpy.array", ["list", [{items}, {quoted(str(value.dtype))}]]]'

    def told_plain(self, value: Any, depth: int) -> str:
        """The plain data that a value is, whatever its class says of itself."""
        if isinstance(value, int):
            return f'["int", "{int.__format__(int.__index__(value), "x")}"]'
        if isinstance(value, float):
            return f'["float", "{float.__repr__(float.__float__(value))}"]'
        if isinstance(value, str):
            return quoted(str.__str__(value))
        if isinstance(value, complex):
            return f'["complex", "{value.real!r}", "{value.imag!r}"]'
        if isinstance(value, (bytes, bytearray)):
            return f'["bytes", "{bytes(value).hex()}"]'
        told = self.told
        if isinstance(value, dict):
            pairs = [f"[{told(k, depth + 1)}, {told(v, depth + 1)}]" for k, v in dict.items(value)]
            return f'["dict", [{", ".join(pairs)}]]'
        name, base = next(pair for pair in CONTAINERS if isinstance(value, pair[1]))
        parts = [told(item, depth + 1) for item in base.__iter__(value)]
        return f'["{name}", [{", ".join(parts)}]]'

    def plain(self, value: Any) -> Any:
        """An object of a class that extends list, dict or set, as one of these."""
        if isinstance(value, dict):
            return dict(dict.items(value))
        if isinstance(value, list):
            return list(list.__iter__(value))
        return set(set.__iter__(value)) if isinstance(value, set) else NotImplemented

    def patch(self, module: str, name: str, value: Any, on: bool) -> None:
        """Let a name of an imported module be another here too, or be itself again."""
        where = __import__(module, fromlist=["_"])
        if on:
            self.patched.setdefault((module, name), getattr(where, name))
            setattr(where, name, value)
        elif (module, name) in self.patched:
            setattr(where, name, self.patched.pop((module, name)))


class Guest:
    """Something of the judge's: what is done with it is done there."""

    __slots__ = ("_number", "_witness")

    def __init__(self, witness: Witness, number: int) -> None:
        object.__setattr__(self, "_witness", witness)
        object.__setattr__(self, "_number", number)

    @staticmethod
    def number_of(guest: Any) -> int:
        return object.__getattribute__(guest, "_number")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _visit(self, "call", "", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return _visit(self, "get", name, (), {})

    def __setattr__(self, name: str, value: Any) -> None:
        _visit(self, "set", name, (value,), {})

    def __eq__(self, other: object) -> bool:
        return type(other) is Guest and Guest.number_of(self) == Guest.number_of(other)

    def __hash__(self) -> int:
        return hash(Guest.number_of(self))


def _offer(names: tuple[str, ...]) -> None:
    for name in names:

        def special(self: Guest, *args: Any, _name: str = name) -> Any:
            value = _visit(self, "special", _name, args, {})
            return iter(value) if _name == "__iter__" else value

        setattr(Guest, name, special)


_offer(("__enter__", "__iter__", "__len__", "__str__", "__repr__", "__getitem__", "__lt__"))
Guest.__exit__ = lambda self, *_: None  # type: ignore[attr-defined]


def _visit(guest: Guest, what: str, name: str, args: tuple, kwargs: dict) -> Any:
    witness: Witness = object.__getattribute__(guest, "_witness")
    number = Guest.number_of(guest)
    told = f"{witness.told(list(args))}, {witness.told(kwargs)}, {witness.printed()}"
    witness.send(f'["visit", {number:d}, {quoted(what)}, {quoted(name)}, {told}]')
    kind, source = witness.reply()
    value = eval(source, witness.scope)
    if kind == "threw":
        error = getattr(builtins, value[0], Exception)
        raise error(*value[1])
    return value


def _send(iterator: Any, value: Any) -> Any:
    return iterator.send(value)


def _throw(iterator: Any, name: str, args: tuple) -> Any:
    kind = getattr(builtins, name, None)
    known = isinstance(kind, type) and issubclass(kind, Exception)
    return iterator.throw(kind(*args) if known else Exception(*args))  # type: ignore[misc]


def _end(iterator: Any) -> None:
    """Close a generator; other iterators have no end."""
    if hasattr(iterator, "close"):
        iterator.close()


def _kinds(error: BaseException) -> list[type]:
    return [kind for kind in type(error).__mro__ if kind is not object]


def _sort(value: Any) -> str:
    if isinstance(value, type):
        return "error" if issubclass(value, BaseException) else "class"
    kind = type(value)
    if kind.__name__ == "coroutine":
        return "coroutine"
    if hasattr(kind, "__next__") and not kind.__flags__ & HEAP_TYPE:
        return "iterator"
    return "function" if kind.__name__ in ("function", "builtin_function_or_method") else "object"


def _named(value: Any) -> str:
    """The names by which a thing is known: for a class of errors, those of all its bases too."""
    if isinstance(value, type) and issubclass(value, BaseException):
        kinds = [kind for kind in value.__mro__ if kind is not object]
        return f"[{', '.join(quoted(f'{kind.__module__}.{kind.__qualname__}') for kind in kinds)}]"
    name = getattr(value, "__name__", None) if callable(value) else None
    name = name if type(name) is str else f"{type(value).__name__} object"
    return f"[{quoted(name)}]"


def _set_item(value: Any, key: Any, item: Any) -> None:
    value[key] = item


def _drop_item(value: Any, key: Any) -> None:
    del value[key]


def _same(left: Any, right: Any) -> bool:
    """Equality by the program's own rule, unless that rule knows no difference."""
    knows_difference = not (left == object() or right == object())
    return knows_difference and bool(left == right)


def _await(value: Any) -> Any:
    import asyncio

    return asyncio.run(value)


def _leave(manager: Any, error: str | None) -> Any:
    """End a with statement."""
    if error is None:
        return manager.__exit__(None, None, None)
    kind = getattr(builtins, error, Exception)
    return bool(manager.__exit__(kind, kind(), None))


def made(name: str, args: tuple) -> Any:
    """A value of the standard library's from its constructor's arguments."""
    module, _, kind = name.rpartition(".")
    return getattr(__import__(module, fromlist=["_"]), kind)(*args)


CONTAINERS: tuple = (("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset))
PLAIN: tuple = (
    int, float, str, complex, bytes, bytearray, dict, list, tuple, set, frozenset,
)  # fmt: skip
