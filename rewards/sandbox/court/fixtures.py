"""What a test function gets: parameters, fixtures, and set-up and tear-down, as in pytest."""

from __future__ import annotations

import sys
import types

from rewards.sandbox.court import collect
from rewards.sandbox.court.things import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

MAX_RUNS = 10_000
NO_FILES = "the tests and the program share no files; let the program take and return text"
REFUSED = {
    "tmp_path": NO_FILES,
    "tmp_path_factory": NO_FILES,
    "tmpdir": NO_FILES,
    "caplog": "the program logs in a process of its own; test what it returns or prints",
    "mocker": "pytest-mock is not here; use monkeypatch or unittest.mock",
    "benchmark": "pytest-benchmark is not here; call the function itself",
}


class Fixture:
    """A function under ``@pytest.fixture``."""

    def __init__(self, function: Callable, scope: str, params: list | None, autouse: bool) -> None:
        self.function, self.scope, self.params, self.autouse = function, scope, params, autouse
        self.__name__ = function.__name__

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise Refused(f"fixture {self.__name__} is called; name it as a parameter instead")


class Mark:
    """``pytest.mark.NAME(...)``."""

    def __init__(self, name: str, args: tuple = (), kwargs: dict | None = None) -> None:
        self.name, self.args, self.kwargs = name, args, kwargs or {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        one = args[0] if len(args) == 1 and not kwargs else None
        if isinstance(one, (types.FunctionType, type)) and self.name != "parametrize":
            own = one.__dict__.get("pytestmark", [])
            one.pytestmark = [*(own if isinstance(own, list) else [own]), self]  # type: ignore[union-attr]
            return one
        mark = Mark(self.name, args, kwargs)
        return mark if self.name != "parametrize" else mark.put

    def put(self, target: Any) -> Any:
        target.pytestmark = [*target.__dict__.get("pytestmark", []), self]
        return target


class Param:
    """``pytest.param(..., marks=...)``."""

    def __init__(self, values: tuple, marks: Any) -> None:
        self.values = values
        self.marks = marks if isinstance(marks, (list, tuple)) else [marks] if marks else []


def runs(
    session: collect.Session, name: str, function: Callable, owner: type | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """(title, body) of each run of a test function."""
    marks = _marks(session, function, owner)
    if any(_skips(mark, session.space) for mark in marks):
        return
    tables = [_table(mark, session.space) for mark in marks if mark.name == "parametrize"]
    given = {key for table in tables for row in table for key in row}
    scene = Scene(session, owner)
    wanted = [*scene.automatic(), *_used(marks), *_parameters(function, owner)]
    needs = scene.closure([key for key in wanted if key not in given])
    tables += [_rows(fixture) for fixture in needs if fixture.params is not None]
    for count, values in enumerate(_product(tables)):
        if count >= MAX_RUNS:
            raise Refused(f"{name} has more than {MAX_RUNS:,} sets of parameters")
        shown = ", ".join(f"{key.strip('!')}={value!r}" for key, value in values.items())
        title = f"{name}[{shown[:200]}]" if values else name
        yield title, lambda values=values: Scene(session, owner).play(function, wanted, values)


def _marks(session: collect.Session, function: Any, owner: type | None) -> list[Mark]:
    """Of the function (the last decorator first), its class and its module."""
    places = [function.__dict__.get("pytestmark", [])]
    places += [base.__dict__.get("pytestmark", []) for base in (owner.__mro__ if owner else ())]
    places.append(session.space.get("pytestmark", []))
    listed = [place if isinstance(place, (list, tuple)) else [place] for place in places]
    return [mark for place in listed for mark in place if isinstance(mark, Mark)]


def _skips(mark: Mark, space: dict[str, Any]) -> bool:
    """Whether a test is not run; what is expected to fail asks nothing."""
    if mark.name == "skip":
        return True
    if mark.name not in ("skipif", "xfail"):
        return False
    conditions = [*mark.args, *(mark.kwargs[key] for key in ("condition",) if key in mark.kwargs)]
    if not conditions:
        return mark.name == "xfail"
    names = {"sys": sys, "os": sys.modules["os"], **space}
    return any(eval(one, names) if isinstance(one, str) else one for one in conditions)


def _used(marks: list[Mark]) -> list[str]:
    return [name for mark in marks if mark.name == "usefixtures" for name in mark.args]


def _table(mark: Mark, space: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``parametrize``, each with its names; a fixture's parameter ends in ``!``."""
    call = dict(zip(("argnames", "argvalues", "indirect"), mark.args), **mark.kwargs)  # noqa: B905
    names = call["argnames"]
    bare = isinstance(names, str)
    if bare:
        names = [part.strip() for part in names.split(",") if part.strip()]
    indirect = call.get("indirect") or ()
    keys = [f"{key}!" if indirect is True or key in indirect else key for key in names]
    table = []
    for row in call["argvalues"]:
        if isinstance(row, Param):
            if any(_skips(own, space) for own in row.marks if isinstance(own, Mark)):
                continue
            values = row.values
        else:
            values = (row,) if bare and len(names) == 1 else tuple(row)
        if len(values) != len(names):
            raise Refused(f"parametrize has {len(names)} names and a row of {len(values)}")
        table.append(dict(zip(keys, values)))  # noqa: B905
    return table


def _rows(fixture: Fixture) -> list[dict[str, Any]]:
    values = [p.values[0] if isinstance(p, Param) else p for p in fixture.params or []]
    return [{f"{fixture.__name__}!": value} for value in values]


def _product(tables: list[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    if not tables:
        yield {}
        return
    for rest in _product(tables[1:]):
        for row in tables[0]:
            yield {**row, **rest}


def _parameters(function: Any, owner: type | None) -> list[str]:
    """Names of the parameters that a call must give."""
    function = getattr(function, "__func__", function)
    patched = getattr(function, "patchings", ())  # of unittest.mock: it gives arguments itself
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    skip = 1 if owner is not None and names[:1] in (("self",), ("cls",)) else 0
    skip += sum(1 for one in patched if one.attribute_name is None and one.new is _default())
    names = names[skip : code.co_argcount - len(function.__defaults__ or ())]
    return [*names, *code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]]


def _default() -> Any:
    return sys.modules["unittest.mock"].DEFAULT


class Scene:
    """One run of a test function: its fixtures, and what must be undone after it."""

    def __init__(self, session: collect.Session, owner: type | None) -> None:
        self.session, self.owner = session, owner
        self.instance = owner() if owner is not None else None
        places = [session.space, *([dict(collect.members(owner))] if owner is not None else [])]
        self.offers = {
            key: value for place in places for key, value in place.items()
            if isinstance(value, Fixture)
        }  # fmt: skip
        self.offers = {value.__name__: value for value in self.offers.values()}
        self.values: dict[str, Any] = {}
        self.last: list[Callable[[], object]] = []

    def automatic(self) -> list[str]:
        return [name for name, fixture in self.offers.items() if fixture.autouse]

    def closure(self, names: list[str]) -> list[Fixture]:
        """The fixtures that some names need, with those that these need."""
        needs: dict[str, Fixture] = {}
        waiting = list(names)
        while waiting:
            fixture = self.offers.get(waiting.pop(0))
            if fixture is not None and fixture.__name__ not in needs:
                needs[fixture.__name__] = fixture
                waiting += _parameters(fixture.function, self.owner)
        return list(needs.values())

    def play(self, function: Callable, wanted: list[str], values: dict[str, Any]) -> None:
        """Set up, call, and tear down, whatever happens."""
        self.values = dict(values)
        space, instance = self.session.space, self.instance
        stages = [(space, "setup_module", "teardown_module", True)]
        if self.owner is None:
            stages.append((space, "setup_function", "teardown_function", False))
        else:
            own = {name: getattr(instance, name) for name, _ in collect.members(self.owner)}
            stages.append((own, "setup_class", "teardown_class", True))
            stages.append((own, "setup_method", "teardown_method", False))
        try:
            for place, first, last, once in stages:
                self.around(place, first, last, function, once=once)
            own_names = set(_parameters(function, self.owner))
            got = {name: self.value(name) for name in dict.fromkeys(wanted)}
            target = function if self.owner is None else getattr(instance, function.__name__)
            result = target(**{name: value for name, value in got.items() if name in own_names})
            if type(result).__name__ == "coroutine":
                import asyncio

                asyncio.run(result)
        finally:
            while self.last:
                self.last.pop()()

    def around(self, place: dict, first: str, last: str, function: Callable, *, once: bool) -> None:
        """Call a set-up function now and its tear-down at the end."""
        done = self.session.__dict__.setdefault("set_up", set())
        key = (first, self.owner if first == "setup_class" else None)
        if callable(place.get(first)) and not (once and key in done):
            done.add(key)
            _call(place[first], function)
        if callable(place.get(last)) and not once:
            self.last.append(lambda: _call(place[last], function))

    def value(self, name: str) -> Any:
        """The value of a parameter or fixture."""
        shared = self.session.__dict__.setdefault("shared", {})
        fixture = self.offers.get(name)
        key = (name, repr(self.values.get(f"{name}!")))
        if name not in self.values:
            if fixture is None:
                self.values[name] = self.built_in(name)
            elif fixture.scope != "function" and key in shared:
                self.values[name] = shared[key]
            else:
                self.values[name] = self.made(fixture)
                if fixture.scope != "function":
                    shared[key] = self.values[name]
        return self.values[name]

    def made(self, fixture: Fixture) -> Any:
        function = fixture.function
        names = _parameters(function, self.owner)
        args = {}
        for name in names:
            args[name] = self.request(fixture) if name == "request" else self.value(name)
        is_method = self.owner is not None and fixture in dict(collect.members(self.owner)).values()
        value = function(self.instance, **args) if is_method else function(**args)
        if isinstance(value, types.GeneratorType):
            made = next(value)
            if fixture.scope == "function":
                self.last.append(lambda: next(value, None))
            return made
        return value

    def request(self, fixture: Fixture | None) -> Any:
        space = types.SimpleNamespace(param=None)
        if fixture is not None:
            space.param = self.values.get(f"{fixture.__name__}!")
        space.addfinalizer = self.last.append
        space.getfixturevalue = self.value
        space.instance, space.cls = self.instance, self.owner
        return space

    def built_in(self, name: str) -> Any:
        from rewards.sandbox.court import pytest_stand_in

        if name in ("capsys", "capfd"):
            output = pytest_stand_in.Captured()
            self.last.append(output.close)
            return output
        if name == "monkeypatch":
            patch = pytest_stand_in.MonkeyPatch(self.session.line)
            self.last.append(patch.undo)
            return patch
        if name == "request":
            return self.request(None)
        entry = self.session.job["entry"]
        if entry and name in ("candidate", "solution", "func", "function", "fn"):
            return self.session.space[entry]
        reason = REFUSED.get(name, "define it in the test code under @pytest.fixture")
        raise Refused(f"there is no fixture {name} here: {reason}")


def _call(function: Any, argument: object) -> None:
    """Call a set-up function, which may take the function that it is for, or not."""
    code = getattr(function, "__func__", function).__code__
    bound = 1 if hasattr(function, "__self__") else 0
    function(*([argument] if code.co_argcount > bound else []))
