"""``builtin:code_tests`` on programs as models write them, and what it says of those that fail."""

import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards import Pool, Reward, Sample

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
PRINTS = [{"input": "", "output": "YES"}]
SOLUTION = "class Solution:\n    def total(self, nums: List[int]) -> int:\n        return sum(nums)"
TOTAL = {"input_output": '{"fn_name": "total", "inputs": [[[1, 2]], [[3]]], "outputs": [3, 3]}'}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], **args: Any) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args=args).result()


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("print('YES')\nexit()", 1.0),
        ("print('YES')\nquit(0)", 1.0),
        ("print('YES')\nexit(1)", 0.0),
        ("print('YES')\nexit('no')", 0.0),
        ("def main():\n    print('YES')\n    exit()\nmain()", 1.0),
        ("import atexit\natexit.register(print, 'YES')", 1.0),
        ("import atexit\natexit.register(print, 'YES')\nexit()", 1.0),
        ("import atexit\nprint('YES')\natexit.register(print, 'NO')", 0.0),
        ("import threading\nthreading.Thread(target=lambda: print('YES')).start()", 1.0),
        ("out = open(1, 'w', closefd=False)\nout.write('YES')", 1.0),
        ("import os\nout = os.fdopen(1, 'w')\nout.write('YES')", 1.0),
        ("import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('YES')", 1.0),
        ("import sys\nfor _ in range(9999): sys.stderr.write('warn' * 40)\nprint('YES')", 1.0),
        ("import sys\nprint('YES')\nsys.stdout.close()", 1.0),
        ("import sys\nsys.stdin = open(0)\nprint(sys.stdin.readline() or 'YES')", 1.0),
        ("import io, os\nio.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nprint('YES')", 1.0),
        ("print('YES')\nraise ValueError", 0.0),
    ],
)  # fmt: skip
def test_whole_programs(pool: Pool, program: str, value: float) -> None:
    assert graded(pool, program, {"tests": PRINTS}).value == value


@pytest.mark.parametrize(
    ("program", "value"),
    [
        (SOLUTION, 1.0),
        (SOLUTION.replace("sum(nums)", "reduce(add, nums, 0)"), 1.0),
        (SOLUTION.replace("sum(nums)", "int(math.fsum(nums))"), 1.0),
        (SOLUTION.replace("sum(nums)", "Counter(nums).total()"), 0.0),
        (SOLUTION.replace("sum", "len"), 0.0),
        (SOLUTION.replace("sum(nums)", "missing(nums)"), 0.0),
        ("total = sum", 1.0),
        ("def total(nums):\n    yield sum(nums)", 0.0),
        ("class Solution:\n    def other(self, nums):\n        return sum(nums)", 0.0),
        ("class Solution:\n    def __init__(self): self.n = 0\n    def total(self, nums):\n"
         "        self.n += sum(nums)\n        return self.n", 1.0),
    ],
)  # fmt: skip
def test_methods_of_solution(pool: Pool, program: str, value: float) -> None:
    assert graded(pool, program, TOTAL).value == value


def test_nothing_is_lent_where_no_judge_does(pool: Pool) -> None:
    program = "def root(x):\n    return math.sqrt(x)"
    assert graded(pool, program, {"test_list": ["assert root(4) == 2"]}).value == 0.0
    assert graded(pool, f"import math\n{program}", {"test_list": ["assert root(4) == 2"]}).value


@pytest.mark.parametrize(
    ("body", "expected", "value"),
    [
        ("return (a, a + 1)", [1, 2], 1.0),
        ("yield from (a, a + 1)", [1, 2], 1.0),
        ("return map(int, '12')", [1, 2], 1.0),
        ("return {1: a}", {"1": 1}, 1.0),
        ("return 0.1 + 0.2", 0.3, 1.0),
        ("return [2, 1]", [1, 2], 0.0),
        ("import itertools\n    return itertools.count()", [0, 1], 0.0),
        ("return object()", None, 0.0),
    ],
)
def test_answers_to_json(pool: Pool, body: str, expected: Any, value: float) -> None:
    columns = {"tests": [{"function": "f", "args": [1], "expected": expected}]}
    assert graded(pool, f"def f(a):\n    {body}", columns, cpu_s=1).value == value


@pytest.mark.parametrize(
    ("program", "test", "value"),
    [
        ("def g(n):\n    yield from range(n)", "assert list(g(3)) == [0, 1, 2]", 1.0),
        ("def g(n):\n    yield from range(n)", "assert list(g(3)) == [0, 1]", 0.0),
        ("def g(n):\n    yield from range(n)", "assert g(3) == [0, 1, 2]", 0.0),
        ("def g(n):\n    return range(n)", "assert sum(g(3)) == 3 and len(g(2)) == 2", 1.0),
        ("def g(n):\n    return {n: 1}.keys()", "assert 3 in g(3)", 1.0),
        ("def g(n):\n    return zip('ab', range(n))", "assert dict(g(2)) == {'a': 0, 'b': 1}", 1.0),
        ("import collections as c\ndef g(n):\n    return c.deque([n])", "assert 2 in g(2)", 1.0),
    ],
)  # fmt: skip
def test_answers_that_have_items(pool: Pool, program: str, test: str, value: float) -> None:
    assert graded(pool, program, {"test_list": [test]}).value == value


@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n    return input()",
        "def f(x):\n    import sys\n    return sys.stdin.readline() + 'wrong'",
        "n = int(input())\ndef f(x):\n    return x",
        "def f(x):\n    print('much' * 100_000)\n    return x + 1",
    ],
)
def test_a_function_has_no_input_and_does_not_wait(pool: Pool, program: str) -> None:
    reward = graded(pool, program, {"test_list": ["assert f(1) == 1"]})
    assert (reward.value, reward.cost.wall_s < 5) == (0.0, True)


CALL = {"test_list": ["assert f(1) == 1", "assert f(2) == 7"]}
LINE = {"tests": [{"input": "1\n", "output": "1\n"}, {"input": "2\n", "output": "7\n"}]}


@pytest.mark.parametrize(
    ("program", "columns", "args", "detail"),
    [
        ("def f(x):\n    return x", CALL, {}, {"trouble": "wrong answer", "test": "f(2)",
         "test_number": 2, "expected": "7", "got": "2"}),
        ("def f(x):\n    y = 1\n    return y / 0", CALL, {},
         {"trouble": "raised ZeroDivisionError: division by zero (line 3)", "test": "f(1)"}),
        ("def f(x):\n    return int('x')", CALL, {}, {"trouble":
         "raised ValueError: invalid literal for int() with base 10: 'x' (line 2)"}),
        ("x = 1\nimport nothing_here\n", CALL, {},
         {"trouble": "raised ModuleNotFoundError: No module named 'nothing_here' (line 2)"}),
        ("def f(x:\n", CALL, {}, {"trouble": "raised SyntaxError: '(' was never closed (line 1)"}),
        ("def g(x):\n    return x", CALL, {},
         {"trouble": "raised NameError: name 'f' is not defined", "test": "f(1)"}),
        ("def f(x):\n    while True: pass", CALL, {"cpu_s": 1}, {"trouble": "timeout", "test":
         "f(1)", "limit": "1 s of CPU time; args: {cpu_s: 2} allows more"}),
        ("def f(x):\n    return [0] * 10**9", CALL, {}, {"trouble": "raised MemoryError (line 2)",
         "limit": "512 MiB of memory; args: {memory_mib: 1024} allows more"}),
        ("def f(x):\n    return 'x' * 2_000_000", CALL, {}, {"trouble": "too much output",
         "test": "f(1)", "limit": "1 MiB of output; args: {output_mib: 2} allows more"}),
        ("def f(x):\n    import os\n    os._exit(0)", CALL, {},
         {"trouble": "it ended before it had answered", "test": "f(1)"}),
        ("print(input())", LINE, {}, {"trouble": "wrong answer", "test": "2\n", "test_number": 2,
         "expected": "7\n", "got": "2\n"}),
        ("n = int(input())\nprint(n)\nprint(1 // (2 - n))", {"tests": LINE["tests"][1:]}, {},
         {"trouble": "exit code 1: ZeroDivisionError: integer division or modulo by zero (line 3)",
          "got": "2\n"}),
        ("import sys\nsys.exit('no way')", LINE, {}, {"trouble": "exit code 1: no way"}),
        ("print('x' * 2_000_000)", LINE, {}, {"trouble": "too much output"}),
        ("x = bytearray(10**9)", LINE, {}, {"trouble": "exit code 1: MemoryError (line 1)",
         "limit": "512 MiB of memory; args: {memory_mib: 1024} allows more"}),
    ],
)  # fmt: skip
def test_every_failure_says_what(
    pool: Pool, program: str, columns: dict[str, Any], args: dict[str, Any], detail: dict[str, Any]
) -> None:
    reward = graded(pool, program, columns, **args)
    assert reward.value == 0.0
    assert {name: reward.detail.get(name) for name in detail} == detail


@pytest.mark.parametrize(
    ("program", "args"),
    [
        ("def f(x):\n    return len('x' * 2_000_000) and 'x' * 2_000_000", {"output_mib": 4}),
        ("def f(x):\n    return len(bytearray(700 << 20)) and 'x' * 2_000_000",
         {"output_mib": 4, "memory_mib": 1024}),
    ],
)  # fmt: skip
def test_limits_can_be_raised(pool: Pool, program: str, args: dict[str, Any]) -> None:
    columns = {"test_list": ["assert f(1) == 'x' * 1_000_000 * 2"]}
    assert graded(pool, program, columns).value == 0.0
    assert graded(pool, program, columns, **args).value == 1.0


def test_tolerance_and_lines_are_arguments(pool: Pool) -> None:
    columns = {"test_list": ["assert f(2) == 1.414"]}
    program = "def f(x):\n    return x ** 0.5"
    assert graded(pool, program, columns).value == 0.0
    assert graded(pool, program, columns, tolerance=1e-3).value == 1.0
    lines = {"tests": [{"input": "", "output": "1 2"}]}
    assert graded(pool, "print(1)\nprint(2)", lines).value == 0.0
    assert graded(pool, "print(1)\nprint(2)", lines, compare="tokens").value == 1.0
    assert graded(pool, "print(1, 2)", lines, compare="words").verdict == "infra_error"


@pytest.mark.parametrize("tolerance", [1e-3, "1e-3"])
def test_a_number_that_yaml_reads_as_text(pool: Pool, tolerance: float | str) -> None:
    columns = {"test_list": ["assert f(2) == 1.414"]}
    assert graded(pool, "def f(x):\n    return x ** 0.5", columns, tolerance=tolerance).value == 1.0


@pytest.mark.parametrize("args", [{"tolerance": "much"}, {"tolerance": -1}, {"cpu_s": "x"}])
def test_no_number_is_a_fault(pool: Pool, args: dict[str, Any]) -> None:
    reward = graded(pool, "def f(x):\n    return x", CALL, **args)
    assert "write a number from 0" in reward.detail["error"]


NUMPY = "import numpy as np\ndef f(x):\n    return np.sqrt(np.arange(x, dtype=float) ** 2)\n"


@pytest.mark.parametrize("isolation", ["bubblewrap", "landlock"])
def test_packages_are_an_option(pool: Pool, isolation: str) -> None:
    columns = {"tests": [{"function": "f", "args": [3], "expected": [0, 1, 2]}]}
    assert "No module named 'numpy'" in graded(pool, NUMPY, columns).detail["trouble"]
    lent = graded(pool, NUMPY, columns, packages=["numpy"], isolation=isolation)
    if "Landlock is" in str(lent.detail):
        pytest.skip("the kernel has no such Landlock")
    assert lent.value == 1.0, lent.detail
    more = NUMPY + "import numpy.testing, numpy.random, numpy.polynomial\n"
    assert graded(pool, more, columns, packages=["numpy"], isolation=isolation).value == 1.0
    other = "import torch\n" + NUMPY
    assert graded(pool, other, columns, packages=["numpy"], isolation=isolation).value == 0.0
    assert "nothing" in str(graded(pool, NUMPY, columns, packages=["nothing"]).detail["error"])


def test_nothing_is_left_of_finished_workers() -> None:
    """No process that waits to be reaped either, also of those that ran out of time."""
    others = offspring(os.getpid())
    with Pool(2) as pool:
        graded(pool, "def f(x):\n    return x", CALL)
        started = offspring(os.getpid()) - others
        graded(pool, "def f(x):\n    while True: pass", CALL, cpu_s=1)
        graded(pool, "import os\nos.fork()\ndef f(x):\n    return x", CALL)
        started |= offspring(os.getpid()) - others
    assert len(started) >= 4
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


def offspring(pid: int) -> set[int]:
    """The processes below one."""
    below = set[int]()
    for task in Path(f"/proc/{pid}/task").iterdir():
        below |= set(map(int, (task / "children").read_text().split()))
    return below.union(*map(offspring, below))


def test_infinite_numbers_are_no_fault(pool: Pool) -> None:
    columns = {"tests": [{"function": "f", "args": [], "expected": 0.5}]}
    assert graded(pool, f"def f():\n    return {math.inf!r}", columns).value == 0.0


OWN_RULES = (
    "from dataclasses import dataclass, fields\n@dataclass\nclass A:\n    x: int\n"
    "def f():\n    return fields(A)[0].type is int\n"
)
HINTED = "def f(xs: List[int] = (1,)) -> Optional[bool]:\n    return sum(xs) == 1\n"


@pytest.mark.parametrize("tests", [
    "assert f() == True",
    "y = True\nassert f() == y\nassert f() != (not y)",
    [{"input": "", "output": "True\n"}],
])  # fmt: skip
@pytest.mark.parametrize(("program", "value"), [
    (OWN_RULES, 1.0),
    (HINTED, 1.0),
    (HINTED.replace("List", "Lists"), 0.0),
    ("List = True\ndef f():\n    return List\n", 1.0),
])  # fmt: skip
def test_annotations_are_evaluated_and_names_of_typing_are_lent(
    pool: Pool, program: str, value: float, tests: Any
) -> None:
    assert graded(pool, f"{program}print(f())\n", {"tests": tests}).value == value
