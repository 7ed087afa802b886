"""From the text that names a reward to the function it names.

A reference is ``builtin:NAME``, ``path/file.py:fn`` (relative to `base`), ``package.module:fn``
or the bare name of an entry point in the group ``stepwell.rewards``. :func:`check` reads source
text and runs none of it; :func:`resolve` imports, and belongs into a worker process.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from rewards.form_arguments import GOLD_NAMES
from rewards.forms import RewardFunction, recognise

ENTRY_POINTS = "stepwell.rewards"
BUILTINS = {
    "choice": "rewards.structured:choice",
    "code_tests": "rewards.code_tests:code_tests",
    "cosine_length": "rewards.text_shape:cosine_length",
    "exact_match": "rewards.text_format:exact_match",
    "gym": "rewards.structured:gym",
    "json_schema": "rewards.structured:json_schema",
    "language": "rewards.language:language",
    "length": "rewards.text_format:length",
    "math_answer": "rewards.math_answer:math_answer",
    "repetition": "rewards.text_shape:repetition",
    "think_format": "rewards.text_format:think_format",
}
ABOUT_FORM = {"language", "length", "repetition", "think_format"}
"""Built-ins that judge how a completion is written, and not whether its answer is right."""
FORM_PARAMETERS = {
    "sample", "samples", "prompts", "completions", "completion_ids", "queries", "labels",
    "data_source", "solution_str", "ground_truth", "extra_info",
    "data_sources", "solution_strs", "ground_truths", "extra_infos",
    *GOLD_NAMES,
}  # fmt: skip
"""Parameters that a form fills in, which ``args`` therefore cannot set."""


class RewardNotFound(ValueError):
    """A reference names no reward; the message is one line with the cause and the fix."""


@dataclass(frozen=True)
class _Parameters:
    """What a function found in source text accepts by keyword; None when it cannot be told."""

    names: tuple[str, ...] | None
    required: tuple[str, ...] = ()  # of them, those without a default
    open: bool = False  # whether it takes any other, too


def check(ref: str, *, base: Path | None = None, args: Mapping[str, Any] | None = None) -> None:
    """Refuse a reference to something that is not there, or arguments it does not take.

    Imports nothing but our own light modules; other sources are only read.

    Raises:
        RewardNotFound: naming the reference, what is wrong with it and what to do.
    """
    if ref.startswith("builtin:"):
        taken = inspect.signature(resolve(ref).function).parameters
        plain = (name for name, one in taken.items() if one.default is inspect.Parameter.empty)
        parameters = _Parameters(tuple(taken), tuple(plain))
    elif ":" not in ref:
        parameters = _source_parameters(_entry_point(ref).value, ref=ref, base=base)
    else:
        parameters = _source_parameters(ref, ref=ref, base=base)
    if parameters.names is None:
        return
    allowed = [name for name in parameters.names if name not in FORM_PARAMETERS]
    for name in args or {}:
        if name not in allowed and not parameters.open:
            known = f"it takes {', '.join(allowed)}" if allowed else "it takes no arguments"
            raise RewardNotFound(
                f"reward {ref}: unknown argument {name!r}{_did_you_mean(name, allowed)} ({known})"
            )
    _check_required(ref, parameters, args or {})


OTHER_FORMS = {"completions", "solution_str", "solution_strs", "queries"}
"""A parameter of these names makes a function one of another library's form."""


def _check_required(ref: str, parameters: _Parameters, args: Mapping[str, Any]) -> None:
    """Refuse a function of our own form with a parameter that nothing fills."""
    names = parameters.names
    if not names or OTHER_FORMS & set(names):
        return  # TRL fills more from columns; what a call lacks is told when it is made
    for name in parameters.required:
        if name != names[0] and name not in args:
            raise RewardNotFound(
                f"reward {ref}: nothing fills the parameter {name!r}: a reward is f(sample), whose "
                "gold is sample.gold; take it from there, give it a default, or set it under args "
                "(rewards/README.md has the forms of TRL, verl and OpenRLHF)"
            )


def resolve(ref: str, base: Path | None = None) -> RewardFunction:
    """Import the function that `ref` names; executes the user's module.

    Raises:
        RewardNotFound: when there is no such file, module, function or built-in.
        TypeError: when the function's signature is none of the known forms.
        Exception: whatever the user's module raises when it is imported.
    """
    target = ref
    if ref.startswith("builtin:"):
        target = _builtin_target(ref)
    elif ":" not in ref:
        target = _entry_point(ref).value
    where, name = split_reference(target, ref=ref)
    module = _load_file(reward_file(where, ref=ref, base=base)) if is_file(where) else None
    if module is None:
        _search_last(base)
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            if not f"{where}.".startswith(f"{error.name}."):
                raise  # the module is there, and what it imports is not
            raise _no_module(where, ref=ref, base=base) from error
    if name not in vars(module) and "__getattr__" not in vars(module):
        raise _no_function(name, _functions(vars(module)), ref=ref)
    function = getattr(module, name)
    if not callable(function):
        raise RewardNotFound(f"reward {ref}: {name} is a {type(function).__name__}, no function")
    return recognise(function, ref=ref)


def _builtin_target(ref: str) -> str:
    name = ref.removeprefix("builtin:")
    if name not in BUILTINS:
        known = ", ".join(sorted(BUILTINS))
        raise RewardNotFound(
            f"reward {ref}: no such built-in{_did_you_mean(name, BUILTINS)} (there are {known})"
        )
    return BUILTINS[name]


def _entry_point(ref: str) -> importlib.metadata.EntryPoint:
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if ref in points:
        return points[ref]
    guess = difflib.get_close_matches(ref, [*BUILTINS, *points], n=1)
    hint = f"; did you mean builtin:{guess[0]}?" if guess and guess[0] in BUILTINS else ""
    raise RewardNotFound(
        f"reward {ref}: no installed package offers it{hint} "
        f"(write builtin:NAME, path/file.py:function or package.module:function)"
    )


def split_reference(target: str, *, ref: str) -> tuple[str, str]:
    where, _, name = target.rpartition(":")
    if not where or not name.isidentifier():
        raise RewardNotFound(
            f"reward {ref}: write builtin:NAME, path/file.py:function or package.module:function"
        )
    return where, name


def is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where


def reward_file(where: str, *, ref: str, base: Path | None) -> Path:
    path = (base or Path.cwd()) / Path(where).expanduser()
    if path.is_file():
        return path.resolve()
    siblings = [str(p.name) for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
    raise RewardNotFound(
        f"reward {ref}: no such file {path}{_did_you_mean(path.name, siblings)} "
        f"(paths are relative to {base or Path.cwd()})"
    )


def _load_file(path: Path) -> ModuleType:
    """The module of a user's file, under a name of its own so that it shadows nothing."""
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"stepwell_reward_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RewardNotFound(f"reward {path}: not a Python file that can be imported")
    _search_last(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search_last(folder: Path | None) -> None:
    """Let a user's modules be imported, after everything else so that they shadow nothing."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))


def _source_parameters(target: str, *, ref: str, base: Path | None) -> _Parameters:
    where, name = split_reference(target, ref=ref)
    path = (
        reward_file(where, ref=ref, base=base) if is_file(where) else module_file(where, ref, base)
    )
    if path is None:
        return _Parameters(None)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise RewardNotFound(f"reward {ref}: {path} cannot be read as Python: {error}") from error
    defined = dict(_definitions(tree.body))
    if name not in defined:
        if "*" in defined or "__getattr__" in defined:
            return _Parameters(None)
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        raise _no_function(
            name, [k for k, v in defined.items() if isinstance(v, functions)], ref=ref
        )
    if (fault := _no_reward(defined[name])) is not None:
        raise RewardNotFound(f"reward {ref}: {name} {fault}")
    return _parameters_of(defined[name])


def _no_reward(node: ast.AST | None) -> str | None:
    """Why what a name is bound to cannot be a reward, as far as its text says."""
    match node:
        case ast.ClassDef():
            return f"is a class; name one of its objects: reward = {node.name}()"
        case ast.Constant() | ast.List() | ast.Dict() | ast.Tuple() | ast.JoinedStr():
            return "is a value, no function; name a function"
        case ast.FunctionDef(decorator_list=[]) if _is_generator(node):
            return "yields, so that it gives a generator and no number; return the reward"
        case ast.FunctionDef(decorator_list=[]) | ast.AsyncFunctionDef(decorator_list=[]):
            given = node.args
            if not (given.posonlyargs or given.args or given.vararg or given.kwonlyargs):
                return "takes no sample; a reward is f(sample)"
    return None


def _is_generator(function: ast.FunctionDef) -> bool:
    """Whether a function yields itself, not by one inside of it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return False


def _definitions(body: Iterable[ast.stmt]) -> Iterable[tuple[str, ast.AST | None]]:
    """Names bound at the top level of a module, with the function, class or value where it is
    written there."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node
            case ast.ClassDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0], None
            case ast.Assign():
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        yield target.id, node.value
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, None
            case ast.If() | ast.Try() | ast.With():
                for block in ast.iter_child_nodes(node):
                    yield from _definitions([block] if isinstance(block, ast.stmt) else [])


def _parameters_of(node: ast.AST | None) -> _Parameters:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _Parameters(None)
    arguments = node.args
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    keyword = [a.arg for a in arguments.kwonlyargs]
    plain = positional[: len(positional) - len(arguments.defaults)]
    missing = zip(keyword, arguments.kw_defaults, strict=True)
    required = (*plain, *(name for name, default in missing if default is None))
    return _Parameters((*positional, *keyword), required, open=arguments.kwarg is not None)


def module_file(where: str, ref: str, base: Path | None) -> Path | None:
    """Source file of a module, found without importing its parents; None when it has none."""
    search: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts, near = where.split("."), base or Path.cwd()
    for index in range(len(parts)):
        spec = _find(".".join(parts[: index + 1]), search, near if index == 0 else None)
        if spec is None:
            raise _no_module(where, ref=ref, base=base)
        search = spec.submodule_search_locations
        if search is None and index + 1 < len(parts):
            raise _no_module(where, ref=ref, base=base)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _find(name: str, search: Sequence[str] | None, base: Path | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, search)
        if spec is not None:
            return spec
    if base is not None:
        return PathFinder.find_spec(name, [str(base)])
    return None


def _no_module(where: str, *, ref: str, base: Path | None) -> RewardNotFound:
    near = base or Path.cwd()
    return RewardNotFound(
        f"reward {ref}: no module {where} is installed or stands in {near} "
        f"(install it, or name the file: path/{where.rpartition('.')[2]}.py:function)"
    )


def _no_function(name: str, known: Iterable[str], *, ref: str) -> RewardNotFound:
    public = [k for k in known if not k.startswith("_")]
    listed = f" (it defines {', '.join(public[:8])})" if public else " (it defines none)"
    return RewardNotFound(f"reward {ref}: no function {name}{_did_you_mean(name, public)}{listed}")


def _functions(namespace: Mapping[str, Any]) -> list[str]:
    return [name for name, value in namespace.items() if inspect.isfunction(value)]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
