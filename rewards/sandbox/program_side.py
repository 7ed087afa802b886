"""The program's half of a run; its text is executed inside the sandbox, once, before any program.

A program is run as a whole, as ``python program.py`` would, or defined and then asked for values.
Nothing here is a secret, and nothing that it says is believed: the outside decodes and compares.
"""

from __future__ import annotations

import _json
import _symtable  # pyright: ignore[reportMissingImports]
import atexit
import builtins
import posix
import sys

FILE = "program.py"
MAX_TEXT = 300
MAX_ITEMS = 200_000
"""Items taken from an iterator, which may be endless."""
LENT_RECURSION = 50_000
MODULES = (
    "collections", "math", "itertools", "functools", "heapq", "bisect", "typing", "operator",
    "string", "re", "datetime", "copy", "random", "statistics", "io", "sys", "json", "time",
    "fractions",
)  # fmt: skip
"""Modules whose names the judges of LiveCodeBench and APPS (both in a ``testing_util.py``) put
before a program. In a name that several have, the first wins; built-ins win over all."""


HINTS = (
    "Any", "Callable", "Deque", "DefaultDict", "Dict", "FrozenSet", "Generator", "Iterable",
    "Iterator", "List", "Mapping", "Optional", "Sequence", "Set", "Tuple", "Type", "TypeVar",
    "Union",
)  # fmt: skip
"""Names of ``typing`` that starter codes use, and programs then forget to import."""


def offer_exits() -> None:
    """``exit`` and ``quit``, which Python's ``site`` would have made."""
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))


def lend(program: str, space: dict, function: str | None) -> None:
    """Put the common modules and their names that `program` uses without importing them in `space`.

    Not the name of the function under test: a program without one has none.
    """
    sys.setrecursionlimit(LENT_RECURSION)
    for name in free_names(program) - {function}:
        if name in MODULES:
            space[name] = __import__(name)
            continue
        for module in map(__import__, MODULES):
            public = getattr(module, "__all__", None) or vars(module)
            if name in public and not name.startswith("_"):
                space[name] = getattr(module, name)
                break


def compiled(program: str, space: dict):  # noqa: ANN201  code
    """The program's code, after the names of ``typing`` that it uses without importing them.

    Nothing of this module's own future imports holds in it.
    """
    code = compile(program, FILE, "exec", dont_inherit=True)
    used = [name for name in HINTS if name in program]
    if used:
        for name in free_names(program).intersection(used):
            space.setdefault(name, getattr(__import__("typing"), name))
    return code


def free_names(program: str) -> set[str]:
    """Names that a program reads and neither it nor Python defines."""
    top = _symtable.symtable(program, FILE, "exec")
    tables, read, bound = [top], set(), set(dir(builtins))
    while tables:
        table = tables.pop()
        tables += table.children
        for name, flags in table.symbols.items():
            scope = flags >> _symtable.SCOPE_OFF & _symtable.SCOPE_MASK
            is_global = scope in (_symtable.GLOBAL_IMPLICIT, _symtable.GLOBAL_EXPLICIT)
            if flags & _symtable.DEF_BOUND and (table is top or is_global):
                bound.add(name)
            elif is_global:
                read.add(name)
    return read - bound


def run_whole(job: dict) -> int:
    """Run a program to its end, as the interpreter would; its exit status."""
    open_streams()
    module = sys.modules["__main__"] = type(sys)("__main__")
    space = module.__dict__
    try:
        if job.get("lend"):
            lend(job["program"], space, None)
        exec(compiled(job["program"], space), space)
        status = 0
    except SystemExit as error:
        status = status_of(error)
    except BaseException as error:
        say(describe(error))
        status = 1
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # waits for those that nobody joined
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        space.clear()  # closes, and so flushes, what the program left open
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
    except SystemExit as error:
        status = status_of(error)
    except BaseException:
        pass
    return status


def open_streams() -> None:
    """Streams that know what they are on, a pipe; those of this process began on other files."""
    text = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    sys.stdin = sys.__stdin__ = open(0, **text)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", **text)  # noqa: SIM115


def status_of(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    say(str(error.code)[:MAX_TEXT])
    return 1


def say(text: str) -> None:
    """A line on standard error, which is shown when the program fails."""
    try:
        sys.stderr.flush()
        posix.write(2, f"\n{text}\n".encode("utf-8", "replace"))
    except BaseException:
        return


def describe(error: BaseException) -> str:
    """The error as ``ValueError: its words (line 3)``."""
    name, text, line = parts_of(error)
    return f"{name}{': ' * bool(text)}{text}{f' (line {line})' * bool(line)}"


def parts_of(error: BaseException) -> tuple[str, str, int]:
    """(class, words, line of the program or 0) of an error."""
    name = type(error).__name__
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        text, line = str(error.msg)[:MAX_TEXT], error.lineno or 0
    return name if type(name) is str else "Exception", text, line


def raised(error: BaseException) -> str:
    """The message that a call raised an error."""
    name, text, line = parts_of(error)
    quoted = _json.encode_basestring_ascii
    return f'["raised", {quoted(name)}, {quoted(text)}, {line:d}]'


def serve(job: dict, space: dict, send, receive) -> None:  # noqa: ANN001  functions
    """Define the program, then evaluate what is asked, one answer to each request."""
    encode, evaluate = encode_value, eval  # before a program patches them
    wrappers = {name: getattr(builtins, name) for name in job.get("wrappers", ())}
    try:
        if job.get("lend"):
            lend(job["program"], space, job.get("function"))
        exec(compiled(job["program"], space), space)
        offer_method(job.get("function"), space)
        send('"defined"')
    except BaseException as error:
        send(raised(error))
        posix._exit(0)
    scope = {**space, **wrappers} if wrappers else space
    while True:
        source = receive()
        try:
            send(f'["value", {encode(evaluate(source, scope), 0)}]')
        except BaseException as error:
            send(raised(error))


def offer_method(function: str | None, space: dict) -> None:
    """Let a function that is a method of ``Solution`` be called: each call on a new object."""
    solution = space.get("Solution")
    if not function or function in space or not isinstance(solution, type):
        return
    if hasattr(solution, function):
        space[function] = lambda *args, **kwargs: getattr(solution(), function)(*args, **kwargs)


def encode_value(value: object, depth: int) -> str:
    """Plain data as JSON: numbers as text, containers tagged with their type."""
    if depth > 200:
        raise RecursionError
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    kind = type(value)
    if isinstance(value, str) and kind is str:
        return _json.encode_basestring_ascii(value)
    if isinstance(value, int):
        return f'["int", "{int.__format__(int.__index__(value), "x")}"]'
    if isinstance(value, float):
        return f'["float", "{float.__repr__(float.__float__(value))}"]'
    if isinstance(value, str):
        return _json.encode_basestring_ascii(str.__str__(value))
    if isinstance(value, complex):
        return f'["complex", "{value.real!r}", "{value.imag!r}"]'
    if isinstance(value, (bytes, bytearray)):
        return f'["bytes", "{bytes(value).hex()}"]'
    if isinstance(value, dict):
        pairs = [
            (encode_value(k, depth + 1), encode_value(v, depth + 1)) for k, v in dict.items(value)
        ]
        return f'["dict", [{", ".join([f"[{key}, {item}]" for key, item in pairs])}]]'
    for name, base in CONTAINERS:
        if isinstance(value, base):
            parts = [encode_value(item, depth + 1) for item in base.__iter__(value)]
            return f'["{name}", [{", ".join(parts)}]]'
    return encode_other(value, depth)


def encode_other(value: object, depth: int) -> str:
    """What is no plain data itself but has items, by its kind; anything else by its class."""
    kind = type(value)
    if isinstance(value, range):
        return f'["range", {encode_value([value.start, value.stop, value.step], depth + 1)}]'
    name = kind.__name__ if type(kind.__name__) is str else "object"
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return encode_value(numpy.ndarray.tolist(numpy.asarray(value)), depth + 1)
    if hasattr(kind, "__next__") or name in ("dict_keys", "dict_values", "dict_items", "deque"):
        tag = name if name.startswith("d") and name in ITEMS else "iterator"
        parts = []
        for item in value:  # pyright: ignore[reportGeneralTypeIssues]
            parts.append(encode_value(item, depth + 1))
            if len(parts) > MAX_ITEMS:
                raise OverflowError("more items than are compared")
        return f'["{tag}", [{", ".join(parts)}]]'
    return f'["opaque", {_json.encode_basestring_ascii(name)}]'


CONTAINERS: tuple = (("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset))
ITEMS = ("dict_keys", "dict_values", "dict_items", "deque")
