"""Rows in the shapes of public data sets, rebuilt from their documentation, with small problems.

Each has programs that deserve full marks and others that do not.
"""

import base64
import json
import pickle
import shutil
import textwrap
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from rewards import Pool, Reward, Sample
from rewards.sandbox.kinds import BadTests, Call, Referenced, Stdio
from rewards.sandbox.packed import unpacked
from rewards.sandbox.tests import read_tests

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
STDIN = [{"input": "2\n", "output": "4\n", "testtype": "stdin"}]
MORE = [{"input": "3\n", "output": "6\n", "testtype": "stdin"}]
FUNCTIONAL = [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]
DOUBLES = "print(2 * int(input()))"
SHIFTS = (
    "class Solution:\n    def shift(self, nums: List[int], by: int) -> List[int]:\n"
    "        return [n + by for n in nums]"
)
NO_SHIFT = SHIFTS.replace("n + by", "n")
HEAD = (
    'def mean(xs: list) -> float:\n    """Their mean.\n\n    >>> mean([1, 2])\n    1.5\n    """\n'
)
BODY = "    return sum(xs) / len(xs)\n"
MIDDLE = "def middle(xs):\n    return sorted(xs)[len(xs) // 2]\n"
ROTATE = "def rotate(xs, k):\n    xs[:] = xs[-k:] + xs[:-k]\n"


def packed(cases: object) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def livecodebench(public: object, private: object, **metadata: str) -> dict[str, Any]:
    return {
        "question_content": "...",
        "platform": "leetcode" if metadata else "atcoder",
        "starter_code": "",
        "public_test_cases": json.dumps(public),
        "private_test_cases": packed(private),
        "metadata": json.dumps(metadata),
    }


ROWS: list[tuple[str, dict[str, Any], str, str]] = [
    ("LiveCodeBench, stdin", livecodebench(STDIN, MORE), DOUBLES, "print(4)"),
    (
        "LiveCodeBench, functional",
        livecodebench(FUNCTIONAL, FUNCTIONAL, func_name="shift"),
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "LiveCodeBench, private tests not packed",
        {"public_test_cases": STDIN, "private_test_cases": json.dumps(MORE)},
        f"```python\n{DOUBLES}\n```",
        "print(4)",
    ),
    (
        "LiveCodeBench, name in the starter code",
        {
            "public_test_cases": json.dumps(FUNCTIONAL),
            "starter_code": SHIFTS.partition("        return")[0],
        },
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "APPS, stdin",
        {"input_output": json.dumps({"inputs": ["2\n", "3\n"], "outputs": ["4\n", "6\n"]})},
        DOUBLES,
        "print(4)",
    ),
    (
        "APPS, calls",
        {"input_output": json.dumps({
            "fn_name": "shift", "inputs": [[[1, 2], 3], [[], 1]], "outputs": [[[4, 5]], [[]]]
        })},
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "APPS, a list of one item",
        {"input_output": {"fn_name": "shift", "inputs": [[[1], 3]], "outputs": [[4]]}},
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "APPS, whole numbers as keys",
        {"input_output": {"fn_name": "f", "inputs": [[{"1": 2}]], "outputs": [2]}},
        "def f(table):\n    return table[1]",
        "def f(table):\n    return table['1']",
    ),
    (
        "CodeContests",
        {
            "public_tests": {"input": ["2\n"], "output": ["4\n"]},
            "private_tests": {"input": [], "output": []},
            "generated_tests": {"input": ["3\n"], "output": ["6\n"]},
        },
        DOUBLES,
        "print(4)",
    ),
    (
        "a list of function_call cases",
        {"tests": json.dumps([
            {"type": "function_call", "fn_name": "shift", "input": [[1], 2], "output": [3]}
        ])},
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "cases in a table",
        {"test_cases": {"test_cases": [{"type": "stdin_stdout", "input": "2", "output": "4"}]}},
        DOUBLES,
        "print(5)",
    ),
    (
        "MBPP",
        {"test_list": ["assert middle([3, 1, 2]) == 2", "assert middle([5]) == 5"],
         "test_setup_code": "", "challenge_test_list": []},
        MIDDLE,
        "def middle(xs):\n    return xs[0]",
    ),
    (
        "HumanEval, the body alone",
        {"prompt": HEAD, "entry_point": "mean", "canonical_solution": BODY,
         "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 1.5\n"},
        BODY,
        "    return xs[0]\n",
    ),
    (
        "HumanEval+, inputs",
        {"prompt": HEAD, "entry_point": "mean", "canonical_solution": BODY, "atol": 0,
         "base_input": [[[1, 2]]], "plus_input": [[[0.1, 0.2, 0.3]], [[7]]]},
        f"```python\n{HEAD}    total = 0\n    for x in reversed(xs): total += x\n"
        "    return total / len(xs)\n```",
        f"{HEAD}    return xs[0]",
    ),
    (
        "MBPP+, inputs",
        {"prompt": '"""\nThe middle.\n"""\n', "entry_point": "middle", "atol": 0,
         "canonical_solution": MIDDLE, "base_input": [[[3, 1, 2]]], "plus_input": [[[9, 8]]],
         "assertion": "assert middle([3, 1, 2]) == 2"},
        MIDDLE,
        "def middle(xs):\n    return 2",
    ),
    (
        "LeetCodeDataset",
        {"prompt": "from typing import List\n", "entry_point": "Solution().shift",
         "test": "def check(candidate):\n    assert candidate(nums = [1, 2],by = 3) == [4, 5]\n"},
        SHIFTS,
        NO_SHIFT,
    ),
    (
        "a change in place",
        {"tests": [{"function": "rotate", "args": [[1, 2, 3], 1], "changed_argument": 0,
                    "expected": [3, 1, 2]}]},
        ROTATE,
        "def rotate(xs, k):\n    return [3, 1, 2]",
    ),
    (
        "a change in place, of the row",
        {"input_output": {"fn_name": "rotate", "inputs": [[[1, 2, 3], 1]], "outputs": [[3, 1, 2]]},
         "changed_argument": 0},
        "class Solution:\n    def rotate(self, xs, k):\n        xs[:] = xs[-k:] + xs[:-k]",
        "def rotate(xs, k):\n    xs = xs[-k:] + xs[:-k]",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], **args: Any) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args=args).result()


@needs_bwrap
@pytest.mark.parametrize(
    ("columns", "right", "wrong"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_rows(pool: Pool, columns: dict[str, Any], right: str, wrong: str) -> None:
    assert graded(pool, right, columns).value == 1.0
    assert graded(pool, wrong, columns).value == 0.0
    assert graded(pool, "def other():\n    pass", columns).value == 0.0


NUMPY_ASSERTION = """import numpy as np

def assertion(out, exp, atol):
    if out != exp and isinstance(exp, float):
        np.testing.assert_allclose(out, exp, atol=1e-6)
    else:
        assert out == exp

"""
LOOP = """inputs = [[[1, 2]], [[0.1, 0.2, 0.3]]]
results = [1.5, 0.2]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(mean(*inp), exp, 0)
"""
CHECK = "def check(mean):\n" + textwrap.indent(LOOP, "    ")


@needs_bwrap
@pytest.mark.parametrize("test", [CHECK, LOOP], ids=["HumanEval+", "MBPP+"])
def test_test_code_with_numpy(pool: Pool, test: str) -> None:
    columns = {"prompt": HEAD, "entry_point": "mean", "test": NUMPY_ASSERTION + test}
    assert graded(pool, BODY, columns, packages=["numpy"]).value == 1.0
    assert graded(pool, "    return xs[0]\n", columns, packages=["numpy"]).value == 0.0
    assert "{packages: [numpy]}" in graded(pool, BODY, columns).detail["error"]


@needs_bwrap
@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ("while True: pass", "1 s of CPU time; args: {cpu_s: 2} allows more"),
        ("return [0] * 10**9", "512 MiB of memory; args: {memory_mib: 1024} allows more"),
    ],
)
def test_test_code_says_which_limit(pool: Pool, body: str, limit: str) -> None:
    test = "def test_it():\n    for x in ([1, 2], [3]):\n        assert f(x) == x\n"
    reward = graded(pool, f"def f(x):\n    {body}", {"test": test}, cpu_s=1)
    assert (reward.value, reward.detail["limit"]) == (0.0, limit)
    assert reward.detail["test"].startswith("f([1, 2")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps([json.dumps(STDIN)]),
        pickle.dumps({"a": 1}),
        pickle.dumps(print),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"no pickle",
        b"",
        pickle.dumps("no json"),
    ],
)
def test_a_pickle_holds_a_text_or_nothing(
    content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadTests, match="packed tests cannot be read"):
        unpacked(base64.b64encode(zlib.compress(content)).decode())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", ["no base64!", "AAAA", base64.b64encode(b"x").decode()])
def test_what_is_not_packed_is_refused(text: str) -> None:
    with pytest.raises(BadTests, match="as LiveCodeBench has it"):
        unpacked(text)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tests": [{"args": [1], "expected": 1}]}, "add a column entry_point"),
        ({"tests": FUNCTIONAL}, "add a column entry_point"),
        ({"tests": [{"input": "1"}]}, "case 1 has no expected value"),
        ({"tests": [{"function": "f", "args": 1, "expected": 1}]}, "write a list of them"),
        ({"tests": [*STDIN, *FUNCTIONAL], "entry_point": "f"}, "give a row one kind"),
        ({"tests": {"cases": []}}, "keys cases, which is no known shape; write a list"),
        ({"tests": [1]}, "neither code nor cases"),
        ({"tests": "[{'input': '1', 'output': }]"}, "begin like JSON"),
        ({"input_output": '{"inputs": ["1"], "outputs": []}'}, "give each input its output"),
        ({"tests": [{"input": "[1", "output": "1", "testtype": "functional"}],
          "entry_point": "f"}, "one argument a line"),
        ({"tests": [{"function": "f", "args": [1], "expected": 1, "changed_argument": "x"}]},
         "number of an argument"),
        ({"base_input": [[1]]}, "canonical_solution and entry_point"),
        ({"base_input": [1], "canonical_solution": "x", "entry_point": "f"}, "list of lists"),
    ],
)  # fmt: skip
def test_bad_tests_say_what_to_write(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadTests, match=message):
        read_tests(columns, None, entry_point=None)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"tests": []},
        {"tests": "[]"},
        {"input_output": '{"inputs": [], "outputs": []}'},
        {"public_test_cases": "[]", "private_test_cases": "[]"},
    ],
)
def test_no_tests(columns: dict[str, Any]) -> None:
    assert read_tests(columns, None, entry_point=None) is None


def test_kinds() -> None:
    (case,) = read_tests({"tests": STDIN}, None, entry_point=None)  # type: ignore[misc]
    assert case == Stdio("2\n", "4\n", lend=True)
    (call,) = read_tests({"tests": FUNCTIONAL}, None, entry_point="f")  # type: ignore[misc]
    assert isinstance(call, Call)
    assert (call.source, call.expected, call.json) == ("f([1, 2], 3)", [4, 5], True)
    tests = [{"function": "f", "args": [float("inf"), [float("nan")]], "expected": 1}]
    (call,) = read_tests({"tests": tests}, None, entry_point=None)  # type: ignore[misc]
    assert call.source == "f(float('inf'), [float('nan')])"  # type: ignore[union-attr]


@needs_bwrap
def test_a_reference_that_fails_is_a_fault_of_the_row(pool: Pool) -> None:
    columns = {"entry_point": "f", "canonical_solution": "def f(x):\n    return 1 / x",
               "base_input": [[1], [0]]}  # fmt: skip
    assert isinstance(read_tests(columns, None, entry_point=None), Referenced)
    reward = graded(pool, "def f(x):\n    return 1 / x", columns)
    assert reward.verdict == "infra_error"
    assert "f(0): raised ZeroDivisionError: division by zero (line 2)" in reward.detail["error"]
