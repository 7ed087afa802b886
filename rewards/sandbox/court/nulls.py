"""Programs that know nothing, to see whether tests ask anything.

Every name that tests take from the program is a :class:`Nothing`: a class, also of errors, whose
call and whose attributes give the same value each time. Without a value of its own that is
an :class:`Anything`, which goes along with whatever is done to it and equals nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Anything:
    """Goes along with every operation; no comparison with it holds."""

    def __call__(self, *_: Any, **__: Any) -> Anything:
        return Anything()

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[Anything]:
        return iter((Anything(), Anything()))

    def __next__(self) -> Anything:
        raise StopIteration

    def __len__(self) -> int:
        return 2

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        return 0.1234567

    def __index__(self) -> int:
        return 7

    __int__ = __index__

    def __str__(self) -> str:
        return "anything"

    def __exit__(self, *_: object) -> None:
        return None


def _offer() -> None:
    same = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
    names = [f"__{side}{name}__" for name in same for side in ("", "r")]
    names += ["__neg__", "__abs__", "__getitem__", "__enter__", "__round__", "__divmod__"]
    for name in names:
        setattr(Anything, name, Anything.__call__)
    for name in ("lt", "le", "gt", "ge", "contains"):
        setattr(Anything, f"__{name}__", lambda self, other: False)
    for name in ("setitem", "delitem"):
        setattr(Anything, f"__{name}__", lambda self, *_: None)


_offer()


class NothingType(type):
    """The class of what stands for a name of the program."""

    value: Any = None

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return Anything() if NothingType.value is None else NothingType.value[0]

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __iter__(cls) -> Iterator[Any]:
        return iter((cls(), cls()))

    def __getitem__(cls, _: Any) -> Any:
        return cls()

    def __instancecheck__(cls, value: object) -> bool:
        return False


class Nothing(Exception, metaclass=NothingType):
    """Stands for any name of the program."""


class NullLine:
    """In place of the way to a program."""

    over = False
    calls = 0
    last = ""

    def __init__(self, value: tuple | None) -> None:
        NothingType.value = value

    def patch(self, *_: Any, **__: Any) -> None:
        """There is nothing to replace."""
