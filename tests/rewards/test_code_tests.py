"""``builtin:code_tests``: references pass, cheats are refused, hostile programs are contained."""

import gzip
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rewards
from rewards import Pool, Reward, Sample
from rewards.code_tests import program_in
from rewards.sandbox.box import Box, Limits, NoIsolation
from rewards.sandbox.tests import BadTests, Call, Judged, Stdio, read_tests

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
ADD = "def add(a, b):\n    return a + b\n"
ASSERTS = "assert add(1, 2) == 3\nassert add(5, 7) == 12\nassert add(100, -3) == 97\n"
JUDGED = "for a in (1, 5):\n    assert add(a, 2) == a + 2\n" + ASSERTS


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], **args: Any) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args=args).result()


def test_program_in_a_completion() -> None:
    text = "First:\n```python\nx = 1\n```\nBetter:\n```py\nx = 2\n```\nDone."
    assert program_in(text) == "x = 2\n"
    assert program_in("x = 3") == "x = 3"


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"tests": ASSERTS}, Call),
        ({"test_list": ["assert f([1], {2: (3,)}) == set([4])"]}, Call),
        ({"tests": "assert not f(1)\nassert f(2) is None\nassert -1 == f(3)"}, Call),
        ({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}, Call),
        ({"tests": [{"input": "1", "output": "2"}]}, Stdio),
        ({"tests": [{"args": [1, 2], "expected": 3}], "entry_point": "add"}, Call),
        ({"input_output": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}, Stdio),
        ({"input_output": {"inputs": [[1]], "outputs": [[2]], "fn_name": "f"}}, Call),
    ],
)
def test_tests_are_read(columns: dict[str, Any], kind: type) -> None:
    tests = read_tests(columns, None, entry_point=None)
    assert isinstance(tests, list)
    assert all(isinstance(test, kind) for test in tests)


def test_more_than_equalities_is_judged() -> None:
    tests = read_tests({"tests": JUDGED}, None, entry_point=None)
    assert isinstance(tests, Judged)
    assert tests.functions == ("add",)


@pytest.mark.parametrize("tests", ["assert (", "x = 1", [1], [{"args": [1], "expected": 1}]])
def test_bad_tests(tests: Any) -> None:
    with pytest.raises(BadTests):
        read_tests({"tests": tests}, None, entry_point=None)


@needs_bwrap
@pytest.mark.parametrize("tests", [ASSERTS, JUDGED])
@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (ADD, "passed"),
        (f"Here:\n```python\n{ADD}```", "passed"),
        ("def add(a, b):\n    return a - b", "wrong_answer"),
        ("def add(a, b):\n    raise ValueError", "error"),
        ("def add(a, b):\n    while True: pass", "timeout"),
        ("def add(a, b:", "error"),
        ("def plus(a, b):\n    return a + b", "error"),
        ("   ", "no_code"),
    ],
)
def test_verdicts(pool: Pool, tests: str, program: str, verdict: str) -> None:
    reward = graded(pool, program, {"tests": tests}, cpu_s=1)
    assert (reward.verdict, reward.value) == (verdict, float(verdict == "passed"))


@needs_bwrap
def test_partial_credit(pool: Pool) -> None:
    program = "def add(a, b):\n    return a + b if b > 0 else 0"
    reward = graded(pool, program, {"tests": ASSERTS}, partial=True)
    assert reward.value == pytest.approx(2 / 3)


@needs_bwrap
@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("[1, (2.5, None), {3: {4}}, 'é\\ud800', b'x', True, 10**60, 1j]", True),
        ("float('inf')", True),
        ("type('T', (int,), {'__eq__': lambda s, o: True, '__hash__': int.__hash__})(4)", False),
        ("iter([1])", False),
        ("type('T', (str,), {'__eq__': lambda s, o: True})('y')", False),
    ],
)
def test_values_travel_as_plain_data(pool: Pool, value: str, same: bool) -> None:
    source = value if same else "5"
    columns = {"tests": f"x = {source}\nassert f() == x"}
    assert graded(pool, f"def f():\n    return {value}", columns).value == float(same)


@needs_bwrap
def test_standard_input(pool: Pool) -> None:
    cases = [{"input": "3\n4\n", "output": "7"}, {"input": "1\n1\n", "output": "2\n"}]
    program = "print(int(input()) + int(input()))"
    assert graded(pool, program, {"tests": cases}).value == 1.0
    assert graded(pool, "print(7)", {"tests": cases}).verdict == "wrong_answer"
    assert graded(pool, "print(7)", {"tests": cases}, partial=True).value == 0.5
    endless = "while True: print('x' * 1000)"
    assert graded(pool, endless, {"tests": cases}).detail["trouble"] == "too much output"


@needs_bwrap
@pytest.mark.parametrize(
    ("language", "command", "program"),
    [
        ("javascript", "node", "console.log(require('fs').readFileSync(0, 'utf8').length)"),
        ("c", "gcc", '#include <stdio.h>\nint main() { int n = 0; while (getchar() >= 0) n++; printf("%d\\n", n); }'),  # noqa: E501
    ],
)  # fmt: skip
def test_other_languages(pool: Pool, language: str, command: str, program: str) -> None:
    if shutil.which(command, path="/usr/bin:/bin") is None:
        pytest.skip(f"{command} is not installed")
    columns = {"tests": [{"input": "abc", "output": "3"}]}
    assert graded(pool, program, columns, language=language).value == 1.0
    assert graded(pool, program + "!", columns, language=language).value == 0.0


def test_unknown_language_is_a_fault(pool: Pool) -> None:
    reward = graded(pool, ADD, {"tests": [{"input": "", "output": ""}]}, language="cobol")
    assert reward.verdict == "infra_error"


def test_no_tests_is_not_scored(pool: Pool) -> None:
    assert graded(pool, ADD, {}).value is None


@needs_bwrap
@needs_data
@pytest.mark.parametrize("tests", [ASSERTS, JUDGED])
def test_cheats_are_refused(pool: Pool, tests: str) -> None:
    cheats = json.loads((DATA / "sandbox/cheats_dev.json").read_text())
    paid = [c["id"] for c in cheats if graded(pool, c["code"], {"tests": tests}).value != 0.0]
    assert paid == []
    assert graded(pool, ADD, {"tests": tests}).value == 1.0


@needs_bwrap
@needs_data
def test_hostile_programs_are_contained(pool: Pool) -> None:
    before = set(os.listdir("/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = str(server.getsockname()[1])
        for case in json.loads((DATA / "sandbox/hostile_dev.json").read_text()):
            program = case["code"].replace("2024", port)
            columns = {"tests": [{"input": "", "output": "never"}]}
            reward = graded(pool, program, columns, cpu_s=1)
            assert reward.value == 0.0, case["id"]
            assert graded(pool, ADD, {"tests": ASSERTS}).value == 1.0
        with pytest.raises(BlockingIOError):
            server.accept()
    assert {name for name in os.listdir("/tmp") if name not in before and "fill" in name} == set()


@needs_bwrap
@pytest.mark.parametrize(
    "attempt",
    [
        "import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0)",
        "open('/proc/1/mem', 'rb+').read(1); print(True)",
        "import os; os.kill(1, 9); print(os.getppid() != 1)",
        "open('/usr/mark', 'w'); print(True)",
        "import os; os.setuid(0); print(True)",
        "import socket; socket.socket(); print(True)",
        "import os; os.unshare(0x10000000); print(True)",
        "import mmap; mmap.mmap(-1, 4 << 30); print(True)",
        "open('/tmp/left', 'w'); print(False)",
        "import os; print('left' in os.listdir('/tmp'))",
        "print(any('shared' in line or 'home' in line for line in open('/proc/self/mounts')))",
        "import os; print(len(os.listdir('/proc/self/fd')) > 4)",
        "import os; print(any(k not in ('PATH', 'HOME', 'PYTHONHASHSEED', 'PWD', 'LC_CTYPE')"
        " for k in os.environ))",
    ],
)
def test_nothing_gets_out(attempt: str) -> None:
    with Box() as box:
        for _ in range(2):
            run = box.run({"mode": "main", "program": attempt}, Limits(cpu_s=2))
            assert b"True" not in (run.talk(b"") or b"")
            run.end()


@needs_bwrap
def test_sleepers_and_their_children_end() -> None:
    program = "import os, time\nfor _ in range(5):\n    if os.fork() == 0: time.sleep(60)\nprint(1)"
    with Box() as box:
        run = box.run({"mode": "main", "program": program}, Limits(cpu_s=1))
        assert run.talk(b"") == b"1\n"
        run.end()
        listing = "import os; print(sorted(n for n in os.listdir('/proc') if n.isdigit()))"
        run = box.run({"mode": "main", "program": listing}, Limits(cpu_s=1))
        processes = json.loads((run.talk(b"") or b"").replace(b"'", b'"'))
        run.end()
    assert len(processes) == 2


def test_refused_without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoIsolation, match="apt-get install bubblewrap"):
        Box()


def test_none_must_be_said() -> None:
    sample = Sample(prompt="", completion=ADD, gold=ASSERTS)
    (reward,) = rewards.score("builtin:code_tests", [sample], args={"isolation": "none"})
    assert reward.value == 1.0


@needs_bwrap
@needs_data
@pytest.mark.slow
def test_humaneval_and_mbpp_references() -> None:
    with gzip.open(DATA / "humaneval/HumanEval.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    keys = ("test", "entry_point", "prompt")
    columns = [{key: row[key] for key in keys} for row in rows]
    for ending, right in ((None, 164), ("    return None\n", 0)):
        programs = [row["prompt"] + (ending or row["canonical_solution"]) for row in rows]
        assert _passed(programs, columns) == right
    rows = [json.loads(line) for line in (DATA / "mbpp/mbpp.jsonl").read_text().splitlines()]
    columns = [{key: row[key] for key in ("test_list", "test_setup_code")} for row in rows]
    assert _passed([row["code"] for row in rows], columns) >= 971


def _passed(programs: list[str], columns: list[dict[str, Any]]) -> int:
    pairs = zip(programs, columns, strict=True)
    samples = [Sample(prompt="", completion=program, columns=row) for program, row in pairs]
    results = rewards.score("builtin:code_tests", samples)
    return sum(result.value == 1.0 for result in results)
