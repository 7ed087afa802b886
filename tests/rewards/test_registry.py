"""References: found without running anything, or refused with the fix."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rewards
from rewards import RewardNotFound, check, resolve
from rewards.registry import BUILTINS


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(
        "raise SystemExit('executed')\n"
        "def good(sample, *, factor=1.0): ...\n"
        "async def later(sample, **anything): ...\n"
        "alias = good\n"
        "if True:\n    def nested(sample): ...\n"
    )
    (tmp_path / "broken.py").write_text("def (:\n")
    package = tmp_path / "kit"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('executed')")
    (package / "grade.py").write_text("def answer(sample): ...\n")
    return tmp_path


@pytest.mark.parametrize(
    ("ref", "args"),
    [
        ("builtin:math_answer", {}),
        ("builtin:length", {"buffer_tokens": 10}),
        ("mine.py:good", {"factor": 2}),
        ("mine.py:later", {"whatever": 2}),
        ("mine.py:alias", {"unknown": 1}),
        ("mine.py:nested", {}),
        ("kit.grade:answer", {}),
    ],
)
def test_found(base: Path, ref: str, args: dict) -> None:
    check(ref, base=base, args=args)


@pytest.mark.parametrize(
    ("ref", "args", "said"),
    [
        ("builtin:math_anser", {}, "did you mean math_answer"),
        ("builtin:length", {"bufer_tokens": 1}, "did you mean buffer_tokens"),
        ("builtin:think_format", {"sample": 1}, "takes no arguments"),
        ("math_answer", {}, "did you mean builtin:math_answer"),
        ("nine.py:good", {}, "no such file"),
        ("mine.py:god", {}, "did you mean good"),
        ("mine.py:good", {"sample": 1}, "unknown argument 'sample'"),
        ("mine.py:", {}, "path/file.py:function"),
        ("broken.py:f", {}, "cannot be read as Python"),
        ("kit.great:answer", {}, "no module kit.great"),
        ("kat.grade:answer", {}, "no module kat.grade"),
        ("kit.grade:anser", {}, "did you mean answer"),
        ("kit.grade.deeper:answer", {}, "no module kit.grade.deeper"),
    ],
)
def test_refused_in_one_line(base: Path, ref: str, args: dict, said: str) -> None:
    with pytest.raises(RewardNotFound) as caught:
        check(ref, base=base, args=args)
    message = str(caught.value)
    assert said in message
    assert ref in message
    assert "\n" not in message


def test_what_a_module_fails_to_import_is_named_as_it_is(base: Path) -> None:
    """Another module that is missing is not the module that was asked for."""
    (base / "kut").mkdir()
    (base / "kut/__init__.py").write_text("")
    (base / "kut/grade.py").write_text("import nowhere.at_all\ndef answer(sample): ...\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        resolve("kut.grade:answer", base)
    assert caught.value.name == "nowhere"
    with pytest.raises(RewardNotFound, match=r"no module kut\.grad is installed"):
        resolve("kut.grad:answer", base)


def test_every_builtin_is_there() -> None:
    needed = {"length": {"buffer_tokens": 8}, "json_schema": {"schema": {}}}
    for name in BUILTINS:
        check(f"builtin:{name}", args=needed.get(name))


def test_import_is_light() -> None:
    heavy = "sympy math_verify torch transformers numpy pipeline asyncio jsonschema py3langid"
    code = f"import sys, rewards; print([m for m in {heavy.split()} if m in sys.modules])"
    root = Path(rewards.__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert out.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("signature", "args", "unfilled"),
    [
        ("response, answer", {}, "answer"),
        ("response, *, answer", {}, "answer"),
        ("sample, limit, more=1", {"more": 2}, "limit"),
        ("samples, limit", {}, "limit"),
        ("sample, a, b, **rest", {"a": 1}, "b"),
        ("sample, limit", {"limit": 3}, None),
        ("sample, *, limit=3", {}, None),
        ("sample, **rest", {"anything": 1}, None),
        ("prompts, completions, answer", {}, None),
        ("data_source, solution_str, ground_truth, extra_info", {}, None),
        ("queries, prompts, labels", {}, None),
    ],
)
def test_a_parameter_that_nothing_fills_is_refused(
    signature: str, args: dict[str, Any], unfilled: str | None, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(f"async def f({signature}):\n    return 1.0\n")
    if unfilled is None:
        check("mine.py:f", base=tmp_path, args=args)
        return
    with pytest.raises(RewardNotFound, match=f"nothing fills the parameter '{unfilled}'"):
        check("mine.py:f", base=tmp_path, args=args)


def test_a_built_ins_required_argument_is_asked_for() -> None:
    with pytest.raises(RewardNotFound, match="nothing fills the parameter 'buffer_tokens'"):
        check("builtin:length")
    check("builtin:length", args={"buffer_tokens": 8})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class f:\n    def __call__(self, completions, **kw): ...", "is a class; name one of its"),
        ("def f(): return 1.0", "takes no sample"),
        ("def f(**options): return 1.0", "takes no sample"),
        ("def f(sample):\n    if sample:\n        yield 1.0", "yields"),
        ("f = 1.0", "is a value, no function"),
        ("f = ['a', 'b']", "is a value, no function"),
        ("def f(*samples): return 1.0", None),
        ("def f(sample):\n    def inner(): yield 1\n    return sum(inner())", None),
        ("class A:\n    def __call__(self, sample): ...\nf = A()", None),
        ("def g(sample): ...\nf = g", None),
        ("f = lambda sample: 1.0", None),
        ("@some.wrapper\ndef f(): ...", None),
        ("f = None\ndef f(sample): return 1.0", None),
    ],
)
def test_what_is_no_function_of_a_sample_is_refused(
    text: str, says: str | None, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(text)
    if says is None:
        check("mine.py:f", base=tmp_path)
        return
    with pytest.raises(RewardNotFound, match=f"mine.py:f: f {says}"):
        check("mine.py:f", base=tmp_path)
