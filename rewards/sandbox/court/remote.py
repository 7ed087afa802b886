"""The judge's line to the program: questions and answers, and what is lent to the program.

Plain data goes over as itself; anything else of the program's is a thing here
(:mod:`rewards.sandbox.court.things`), anything else of ours is a guest there.
"""

from __future__ import annotations

import _json
import _thread
import sys

from rewards.sandbox.court.things import (
    Ended,
    Opaque,
    Thing,
    Whole,
    become_whole,
    kind_of,
    name_of,
    new,
    number_of,
)
from rewards.sandbox.court.witness import MADE, MAX_DEPTH, MUTABLE, PLAIN, made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

quoted = _json.encode_basestring_ascii
SPECIAL = ("__enter__", "__iter__", "__len__", "__str__", "__repr__", "__getitem__", "__lt__")
"""What the program may do, besides calls, with objects of the tests' classes."""


ITERATING = ("next(", "_send(", "_throw(")
"""The questions that end in StopIteration as a rule."""


class Line:
    """The way to the program: one question at a time, answered before the next."""

    def __init__(self, send: Callable, receive: Callable, job: dict) -> None:
        self.send, self.receive, self.classes = send, receive, job["classes"]
        self.carries = job["carries"]
        """Whether changes in place come over also from calls with a result."""
        self.stops = job["stops"]
        """Whether tests know of StopIteration, which would end a ``map`` of theirs in silence."""
        self.lock = _thread.RLock()
        """One question at a time, also where tests have threads; a visit asks within one."""
        self.over = False
        self.calls = 0
        self.last = ""
        """The last call of the program, as it would be written."""
        self.guests: list[Any] = []
        self.things: dict[int, Thing] = {}
        self.errors: dict[str, type] = {}
        self.whole = False
        self.scope: dict[str, Any] = {
            "__builtins__": {},
            "inf": float("inf"),
            "nan": float("nan"),
            "set": set,
            "frozenset": frozenset,
            "complex": complex,
            "Opaque": Opaque,
            "thing": self.thing,
            "data": self.data,
            "made": made,
            "guest": self.guests.__getitem__,
        }

    def names(self, source: str) -> dict[str, Any]:
        """The program's names with their values, from what it told when it was defined."""
        told = dict(eval(source, self.scope))
        for name in self.classes:
            value = told.get(name)
            if type(value) is Thing and kind_of(value) == "class":
                become_whole(value)
        return told

    def ask(self, source: str, *, whole: bool = False, handed: tuple = ()) -> Any:
        """The value of an expression in the program; what it changed of `handed` changes here."""
        with self.lock:
            return self.asked(source, whole=whole, handed=handed)

    def asked(self, source: str, *, whole: bool, handed: tuple) -> Any:
        if self.over:
            raise Ended
        self.send(f'["ask", {quoted(source)}]')
        while True:
            kind, _, text = self.receive().partition(" ")
            if kind == "ended":
                self.over = True
                raise Ended
            self.whole = whole
            try:
                told = eval(text, self.scope)
            except Exception:  # it was told something that no program tells
                return Opaque()
            if kind == "value":
                value, changes, printed = told
                carries = value is None or self.carries
                self.take(changes if carries else [], printed, handed)
                return value
            if kind == "raised":
                error, changes, printed = self.error(*told[:-2]), *told[-2:]
                self.take(changes if self.carries else [], printed, handed)
                if isinstance(error, StopIteration) and not source.startswith(ITERATING):
                    error = error if self.stops else _loud(error)
                raise error
            self.send(f'["reply", {quoted(self.visit(*told))}]')

    def take(self, changes: list, printed: str, handed: tuple) -> None:
        """Show what the program printed, and change arguments as it changed them."""
        if printed:
            sys.stdout.write(printed)
        for number, value in changes:
            if 0 <= number < len(handed):
                _renew(handed[number], value)

    def call(self, function: Thing, args: tuple, kwargs: dict, *, whole: bool) -> Any:
        self.calls += 1
        inside = ", ".join(
            [*map(self.spelled, args), *(f"{k}={self.spelled(kwargs[k])}" for k in kwargs)]
        )
        self.last = f"{name_of(function)}({inside})"[:1000]
        table = "".join(f"{k!r}: {self.spelled(v)}, " for k, v in kwargs.items())
        listed = "".join(f"{self.spelled(value)}, " for value in args)
        source = f"_call(_o({number_of(function)}), ({listed}), {{{table}}})"
        return self.ask(source, whole=whole, handed=(*args, *kwargs.values()))

    def visit(self, number: int, what: str, name: str, args: list, kwargs: dict, said: str) -> str:
        """Do with something of ours what the program does with it; the answer, for its side."""
        if said:
            sys.stdout.write(said)
        try:
            host = self.guests[number]
            if what == "call":
                return f"returned {self.spelled(host(*args, **kwargs))}"
            if what == "special" and name in SPECIAL and _is_open(host):
                value = getattr(type(host), name)(host, *args)
                return f"returned {self.spelled(list(value) if name == '__iter__' else value)}"
            if name.startswith("_") or not _is_open(host):
                raise AttributeError(name)
            if what == "set" and (_is_mock(host) or callable(getattr(type(host), name, None))):
                raise AttributeError(f"{name} is not for the program to set")
            if what == "set":
                setattr(host, name, args[0])
                return "returned None"
            return f"returned {self.spelled(getattr(host, name))}"
        except Exception as error:
            plain = [arg for arg in error.args if isinstance(arg, (str, int, float))]
            return f"threw ({type(error).__name__!r}, {plain!r})"

    def patch(self, module: str, name: str, value: Any, *, on: bool) -> None:
        """What a test replaces in a module of the standard library is replaced there too."""
        self.ask(f"_patch({module!r}, {name!r}, {self.spelled(value)}, {on})")

    def thing(self, number: int, sort: str, names: list[str]) -> Any:
        if sort == "iterator":
            return _yielded(self, number, whole=self.whole)
        if sort == "error":
            return self.error_class(names)
        if sort == "coroutine":
            return _awaited(self, number)
        if number not in self.things:
            self.things[number] = new(Thing, self, number, sort, names[0])
        thing = self.things[number]
        if self.whole and type(thing) is Thing:
            become_whole(thing)
        return thing

    def data(self, number: int, name: str, value: Any) -> Any:
        """Plain data of a class of the program's, such as a named tuple: with its attributes."""

        def read(_: Any, attribute: str) -> Any:
            return self.ask(f"_get(_o({number}), {attribute!r})")

        return type(name, (type(value),), {"__getattr__": read})(value)

    def error(
        self, names: list[str], args: list, text: str, line: int, number: int
    ) -> BaseException:
        """An error of the program's, as its nearest kin here."""
        kind = self.error_class(names)
        error = kind.__new__(kind, *args) if issubclass(kind, OSError) else kind.__new__(kind)
        error.args = tuple(args)
        error.of_program = (kind.__name__, text, line)  # pyright: ignore[reportAttributeAccessIssue]
        if getattr(kind, "of_program", None):
            error.read = lambda name: self.ask(f"_get(_o({number}), {name!r})")  # pyright: ignore
        return error

    def error_class(self, names: list[str]) -> type[BaseException]:
        """The class of errors with these names, its own and its bases'."""
        module, _, name = names[0].rpartition(".")
        kind = getattr(sys.modules.get(module), name, None) if _has_errors(module) else None
        if isinstance(kind, type) and issubclass(kind, (Exception, SystemExit)):
            return kind
        if names[0] not in self.errors:
            base = self.error_class(names[1:]) if len(names) > 1 else Exception
            own = {"of_program": True, "__str__": _words, "__getattr__": _read}
            self.errors[names[0]] = type(name or "Exception", (base,), own)
        return self.errors[names[0]]

    def spelled(self, value: Any, depth: int = 0) -> str:
        """Python source that stands for a value in the program's process."""
        if depth > MAX_DEPTH:
            raise RecursionError("nested too deeply")
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is bytes:
            return repr(value)
        if kind is Thing or kind is Whole:
            return f"_o({number_of(value)})"
        if isinstance(value, PLAIN):
            return self.spelled_plain(value, depth)
        name = f"{kind.__module__}.{kind.__qualname__}".replace("numpy.ndarray", "numpy.array")
        if name in MADE and getattr(value, "tzinfo", None) is None:
            return f"_made({name!r}, {self.spelled(tuple(MADE[name](value)))})"
        if name == "_io.StringIO":
            return f"_text({value.getvalue()[value.tell() :]!r})"
        if callable(value) or _is_open(value):
            for number, guest in enumerate(self.guests):
                if guest is value:
                    return f"_guest({number})"
            self.guests.append(value)
            return f"_guest({len(self.guests) - 1})"
        return "object()"

    def spelled_plain(self, value: Any, depth: int) -> str:
        if isinstance(value, int):
            return f"{int(value):#x}" if abs(value) > 10**18 else repr(int(value))
        if isinstance(value, float):
            return float.__repr__(value)
        if isinstance(value, str):
            return str.__repr__(value)
        if isinstance(value, complex):
            return f"complex({value.real!r}, {value.imag!r})"
        if isinstance(value, (bytes, bytearray)):
            return f"bytearray({bytes(value)!r})" if isinstance(value, bytearray) else repr(value)
        if isinstance(value, dict):
            pairs = [
                f"{self.spelled(k, depth + 1)}: {self.spelled(v, depth + 1)}"
                for k, v in dict.items(value)
            ]
            return f"{{{', '.join(pairs)}}}"
        parts = "".join(f"{self.spelled(item, depth + 1)}, " for item in value)
        if isinstance(value, list):
            return f"[{parts}]"
        if isinstance(value, tuple):
            return f"({parts})"
        return f"set([{parts}])" if isinstance(value, set) else f"frozenset([{parts}])"


def _yielded(line: Line, number: int, *, whole: bool) -> Iterator:
    """An iterator of the program's: a generator here, asked for one item at a time."""
    question = f"next(_o({number}))"
    while True:
        try:
            item = line.ask(question, whole=whole)
        except StopIteration as end:
            return end.args[0] if end.args else None
        try:
            value = yield item
            question = f"next(_o({number}))"
            if value is not None:
                question = f"_send(_o({number}), {line.spelled(value)})"
        except GeneratorExit:
            line.ask(f"_end(_o({number}))")
            raise
        except Exception as error:
            words = f"{type(error).__name__!r}, {line.spelled(error.args)}"
            question = f"_throw(_o({number}), {words})"


def _loud(error: Any) -> RuntimeError:
    """An error in place of StopIteration, as Python has it for generators (PEP 479)."""
    other = RuntimeError("the program raised StopIteration")
    other.of_program = error.of_program  # pyright: ignore[reportAttributeAccessIssue]
    return other


async def _awaited(line: Line, number: int) -> Any:
    return line.ask(f"_await(_o({number}))")


def _has_errors(module: str) -> bool:
    """Whether a program may raise the errors of a module: Python's, not those that steer tests."""
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names and top not in ("unittest", "doctest", "__main__")


def _is_open(value: object) -> bool:
    """Whether the program may read attributes: of objects of the tests' classes, and of mocks."""
    kind = type(value)
    if isinstance(value, type) or any(base.__module__ == "unittest.case" for base in kind.__mro__):
        return False
    return kind.__module__ == "__main__" or _is_mock(value)


def _is_mock(value: object) -> bool:
    return any(base.__module__ == "unittest.mock" for base in type(value).__mro__)


def _renew(mine: Any, theirs: Any) -> None:
    """Change a list, dict or set here as it was changed there, with what is inside."""
    if type(mine) is not type(theirs) or type(mine) not in MUTABLE:
        return
    if type(mine) is list:
        mine[:] = [_merged(*pair) for pair in zip(mine, theirs)] + theirs[len(mine) :]  # noqa: B905
    elif type(mine) is dict:
        items = [(key, _merged(mine.get(key), item)) for key, item in theirs.items()]
        mine.clear()
        mine.update(items)
    elif type(mine) is set:
        mine.clear()
        mine.update(theirs)
    else:
        mine[:] = theirs


def _merged(mine: Any, theirs: Any) -> Any:
    if type(mine) is type(theirs) and type(mine) in MUTABLE:
        _renew(mine, theirs)
        return mine
    return theirs


def _words(error: Any) -> str:
    told = error.__dict__.get("of_program")
    return told[1] if told else BaseException.__str__(error)


def _read(error: Any, name: str) -> Any:
    read = error.__dict__.get("read")
    if read is None or name.startswith("__"):
        raise AttributeError(name)
    return read(name)
