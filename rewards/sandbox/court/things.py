"""The program as tests see it: names and objects that live in another process.

A :class:`Thing` asks the program for its attributes, items and results. What decides a test stays
here: a thing is equal to itself only, and in nothing, unless it is an object of a class that the
tests name (:class:`Whole`), whose own rules are what is tested; even that equals no plain data.
"""

from __future__ import annotations

import builtins

from rewards.sandbox.court.witness import MUTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rewards.sandbox.court.remote import Line


class Refused(Exception):
    """The tests ask for what a judge does not offer; the words say what to write instead."""


class Ended(BaseException):
    """The program ended instead of answering."""


class Opaque:
    """Something that could not be read: equal to nothing."""

    def __repr__(self) -> str:
        return "something that could not be read"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


class Thing:
    """Something of the program's that is no plain data."""

    __slots__ = ("_kind", "_line", "_name", "_number")

    __class__ = property(lambda self: _class_of(self))  # type: ignore[assignment]
    __doc__ = property(lambda self: _ask(self, "{}.__doc__"))  # type: ignore[assignment]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        whole = type(self) is Whole
        return object.__getattribute__(self, "_line").call(self, args, kwargs, whole=whole)

    def __getattr__(self, name: str) -> Any:
        if name == "__dict__":
            raise AttributeError(name)
        if name == "__signature__":
            raise Refused("tests look at a signature; compare what the function returns instead")
        value = _ask(self, f"_get({{}}, {name!r})")
        if type(value) in (Thing, Whole):
            object.__setattr__(value, "_name", f"{name_of(self)}.{name}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, f"_set({{}}, {name!r}, {{}})", value)

    def __delattr__(self, name: str) -> None:
        _ask(self, f"_unset({{}}, {name!r})")

    def __eq__(self, other: Any) -> bool:
        if type(other) in (Thing, Whole):
            same = number_of(self) == number_of(other)
            has_rule = Whole in (type(self), type(other))
            return same or (has_rule and _ask(self, "_same({}, {})", other) is True)
        if type(other) not in MUTABLE:
            return False
        plain = _ask(self, "_plain({})")
        return type(plain) is type(other) and plain == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(number_of(self))

    def __instancecheck__(self, value: object) -> bool:
        return type(value) in (Thing, Whole) and bool(_ask(self, "isinstance({1}, {0})", value))

    def __mro_entries__(self, bases: tuple) -> tuple:
        raise Refused(
            f"a class of the tests derives from the program's {name_of(self)}, which lives in "
            "another process; test an object of it, or define the derived class in the program"
        )

    def __iter__(self) -> Iterator:
        items = _ask(self, "iter({})")
        if type(items) not in (Thing, Whole):
            yield from items
            return
        while True:
            try:
                item = _ask(items, "next({})")
            except StopIteration:
                return
            yield item

    def __enter__(self) -> Any:
        value = _ask(self, "{}.__enter__()")
        return self if type(value) is type(self) and value == self else value

    def __exit__(self, kind: type | None, *_: object) -> Any:
        name = kind.__name__ if kind is not None else None
        return _ask(self, f"_leave({{}}, {name!r})")


class Whole(Thing):
    """An object of a class that the tests name, or that class: its own rules hold among its kin."""

    __slots__ = ()

    __eq__ = Thing.__eq__

    def __hash__(self) -> int:
        return hash(_ask(self, "hash({})"))

    def __contains__(self, value: Any) -> bool:
        return _ask(self, "({1} in {0})", value) is True


def _offer(kind: type, templates: dict[str, str]) -> None:
    for name, template in templates.items():

        def operation(self: Any, *args: Any, _template: str = template) -> Any:
            return _ask(self, _template, *args)

        setattr(kind, name, operation)


def _ordered(sign: str) -> Callable[[Any, Any], Any]:
    """An order holds among objects by the program's rule; with plain data there is none."""

    def holds(self: Any, other: Any) -> Any:
        if type(other) is not Whole:
            return NotImplemented
        return _ask(self, f"({{}} {sign} {{}})", other) is True

    return holds


_offer(
    Thing,
    {
        "__getitem__": "({}[{}])",
        "__setitem__": "_item({}, {}, {})",
        "__delitem__": "_drop({}, {})",
        "__len__": "len({})",
        "__bool__": "bool({})",
        "__str__": "str({})",
        "__repr__": "repr({})",
        "__format__": "format({}, {})",
        "__float__": "float({})",
        "__int__": "int({})",
        "__index__": "{}.__index__()",
        "__reversed__": "reversed({})",
        "__next__": "next({})",
    },
)
_SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "matmul": "@", "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
_ORDERS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_offer(Whole, {f"__{name}__": f"({{}} {sign} {{}})" for name, sign in _SIGNS.items()})
_offer(Whole, {f"__r{name}__": f"({{1}} {sign} {{0}})" for name, sign in _SIGNS.items()})
for _order, _sign in _ORDERS.items():
    setattr(Whole, f"__{_order}__", _ordered(_sign))
_offer(Whole, {"__neg__": "(-{})", "__pos__": "(+{})", "__abs__": "abs({})", "__invert__": "(~{})"})


def new(kind: type, line: Line, number: int, sort: str, name: str) -> Any:
    thing = object.__new__(kind)
    for key, value in (("_line", line), ("_number", number), ("_kind", sort), ("_name", name)):
        object.__setattr__(thing, key, value)
    return thing


def _class_of(thing: Any) -> type:
    """A class with the name of the thing's own."""
    sort, name = kind_of(thing), name_of(thing)
    name = {"class": "type", "function": "function"}.get(sort, name.removesuffix(" object"))
    return type(name, (), {})


def become_whole(thing: Any) -> None:
    object.__dict__["__class__"].__set__(thing, Whole)


def number_of(thing: Any) -> int:
    return object.__getattribute__(thing, "_number")


def kind_of(thing: Any) -> str:
    return object.__getattribute__(thing, "_kind")


def name_of(thing: Any) -> str:
    return object.__getattribute__(thing, "_name")


def _ask(thing: Any, template: str, *others: Any) -> Any:
    line: Line = object.__getattribute__(thing, "_line")
    source = template.format(f"_o({number_of(thing)})", *map(line.spelled, others))
    return line.ask(source, whole=type(thing) is Whole)


class Missing:
    """A name of the tests that the program does not define: any use of it fails."""

    def __init__(self, name: str, log: Any) -> None:
        self._name, self._log = name, log

    def __call__(self, *_: Any, **__: Any) -> Any:
        error = NameError(f"name {self._name!r} is not defined")
        error.of_program = ("NameError", str(error), 0)  # pyright: ignore
        self._log.missing(str(error))
        raise error

    def __getattr__(self, name: str) -> Any:
        return self()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __call__
    __iter__ = __len__ = __getitem__ = __contains__ = __instancecheck__ = __enter__ = __call__
    __hash__ = object.__hash__


class ProgramModule(type(builtins)):
    """What tests import as the program."""

    def __init__(self, name: str, value_of: Callable[[str], Any], line: Any) -> None:
        super().__init__(name)
        self.__dict__.update(__path__=[], __getattr__=value_of, _line=line)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("__"):
            self._line.patch("solution", name, value, on=True)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._line.patch("solution", name, None, on=False)
        super().__delattr__(name)
