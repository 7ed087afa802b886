"""Five rows of each public shape of programs with tests, rebuilt from documentation.

The problems are small and ours; each has a solution in every language that a shape needs.
"""

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A function with its cases, and its body in four languages."""

    name: str
    text: str
    takes: str
    """``int``, ``ints`` or ``str``."""
    gives: str
    python: str
    javascript: str
    cpp: str
    go: str
    cases: list[tuple[Any, Any]]

    @property
    def other_name(self) -> str:
        """As in languages that write names without underscores."""
        head, *rest = self.name.split("_")
        return head + "".join(word.capitalize() for word in rest)

    @property
    def source(self) -> str:
        return f"def {self.name}(x):\n{self.python}"

    @property
    def method(self) -> str:
        body = "".join(f"    {line}\n" for line in self.python.splitlines())
        return f"class Solution:\n    def {self.name}(self, x: {HINT[self.takes]}):\n{body}"

    @property
    def main(self) -> str:
        """A whole program that reads one line."""
        values = {"ints": "print(*y)", "int": "print(y)", "str": "print(y)"}
        return f"{self.source}\nx = {READ[self.takes]}\ny = {self.name}(x)\n{values[self.gives]}\n"

    def stdio(self) -> list[tuple[str, str]]:
        return [(f"{_line(given)}\n", f"{_line(due)}\n") for given, due in self.cases]


HINT = {"int": "int", "ints": "List[int]", "str": "str"}
READ = {"int": "int(input())", "ints": "list(map(int, input().split()))", "str": "input()"}
CPP = {"int": "int", "ints": "vector<int>", "str": "string"}
GO = {"int": "int", "ints": "[]int", "str": "string"}
PROBLEMS = [
    Problem(
        name="twice_of", text="Twice a whole number.", takes="int", gives="int",
        python="    return 2 * x\n", javascript="  return 2 * x;\n}\n",
        cpp="    return 2 * x;\n}\n", go="    return 2 * x\n}\n", cases=[(3, 6), (-4, -8), (0, 0)],
    ),
    Problem(
        name="sum_of", text="The sum of numbers.", takes="ints", gives="int",
        python="    return sum(x)\n",
        javascript="  return x.reduce((a, b) => a + b, 0);\n}\n",
        cpp="    return accumulate(x.begin(), x.end(), 0);\n}\n",
        go="    total := 0\n    for _, n := range x {\n        total += n\n    }\n"
        "    return total\n}\n",
        cases=[([1, 2, 3], 6), ([5], 5), ([-1, 1], 0)],
    ),
    Problem(
        name="loud_of", text="A text in capitals.", takes="str", gives="str",
        python="    return x.upper()\n", javascript="  return x.toUpperCase();\n}\n",
        cpp="    for (auto& c : x) c = toupper(c);\n    return x;\n}\n",
        go="    return strings.ToUpper(x)\n}\n", cases=[("ab", "AB"), ("x1y", "X1Y"), ("Q", "Q")],
    ),
    Problem(
        name="evens_of", text="The even ones of numbers.", takes="ints", gives="ints",
        python="    return [n for n in x if n % 2 == 0]\n",
        javascript="  return x.filter((n) => n % 2 === 0);\n}\n",
        cpp="    vector<int> y;\n    for (int n : x) if (n % 2 == 0) y.push_back(n);\n"
        "    return y;\n}\n",
        go="    y := []int{}\n    for _, n := range x {\n        if n%2 == 0 {\n"
        "            y = append(y, n)\n        }\n    }\n    return y\n}\n",
        cases=[([1, 2, 4], [2, 4]), ([6, 7], [6]), ([8, 10, 3], [8, 10])],
    ),
    Problem(
        name="span_of", text="The largest number less the smallest.", takes="ints", gives="int",
        python="    return max(x) - min(x)\n",
        javascript="  return Math.max(...x) - Math.min(...x);\n}\n",
        cpp="    sort(x.begin(), x.end());\n    return x.back() - x.front();\n}\n",
        go="    sort.Ints(x)\n    return x[len(x)-1] - x[0]\n}\n",
        cases=[([1, 9, 4], 8), ([3], 0), ([-2, 2], 4)],
    ),
]  # fmt: skip


def _line(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _inputs(one: Problem) -> list[list[Any]]:
    return [[given] for given, _ in one.cases]


def _packed(cases: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def _livecodebench(one: Problem, cases: list[dict[str, str]], **metadata: str) -> dict[str, Any]:
    return {
        "question_title": one.name,
        "question_content": one.text,
        "platform": "leetcode" if metadata else "atcoder",
        "question_id": one.name,
        "difficulty": "easy",
        "starter_code": one.method.partition("        ")[0] if metadata else "",
        "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": _packed(cases[1:]),
        "metadata": json.dumps(metadata),
    }


def livecodebench_functional(one: Problem) -> dict[str, Any]:
    cases = [
        {"input": json.dumps(x), "output": json.dumps(y), "testtype": "functional"}
        for x, y in one.cases
    ]
    return _livecodebench(one, cases, func_name=one.name) | {"solution": one.method}


def livecodebench_stdin(one: Problem) -> dict[str, Any]:
    cases = [{"input": x, "output": y, "testtype": "stdin"} for x, y in one.stdio()]
    return _livecodebench(one, cases) | {"solution": one.main}


def _apps(one: Problem, program: str, **table: Any) -> dict[str, Any]:
    return {
        "problem_id": PROBLEMS.index(one),
        "question": one.text,
        "solutions": json.dumps([program, program.replace("return", "return ")]),
        "input_output": json.dumps(table),
        "difficulty": "introductory",
        "starter_code": f"def {one.name}(x):\n\t" if "fn_name" in table else "",
    }


def apps_calls(one: Problem) -> dict[str, Any]:
    outputs = [[due] for _, due in one.cases]
    return _apps(one, one.source, fn_name=one.name, inputs=_inputs(one), outputs=outputs)


def apps_stdin(one: Problem) -> dict[str, Any]:
    inputs, outputs = zip(*one.stdio(), strict=True)
    return _apps(one, one.main, inputs=inputs, outputs=outputs)


def _asserts(one: Problem, name: str) -> list[str]:
    return [f"assert {name}({given!r}) == {due!r}" for given, due in one.cases]


def mbpp(one: Problem) -> dict[str, Any]:
    return {
        "task_id": PROBLEMS.index(one),
        "text": one.text,
        "code": one.source.replace("\n", "\r\n"),
        "test_list": _asserts(one, one.name),
        "test_setup_code": "",
        "challenge_test_list": [],
    }


def _human_eval(one: Problem) -> dict[str, Any]:
    return {
        "task_id": f"HumanEval/{PROBLEMS.index(one)}",
        "prompt": f'from typing import List\n\n\ndef {one.name}(x: {HINT[one.takes]}):\n    """ '
        f'{one.text}\n    """\n',
        "entry_point": one.name,
        "canonical_solution": one.python,
    }


def human_eval(one: Problem) -> dict[str, Any]:
    lines = "".join(f"    {line}\n" for line in _asserts(one, "candidate"))
    test = f"\n\nMETADATA = {{\n    'author': 'x'\n}}\n\n\ndef check(candidate):\n{lines}\n"
    return _human_eval(one) | {"test": test}


def human_eval_plus(one: Problem) -> dict[str, Any]:
    """As EvalPlus' own file has it."""
    inputs = _inputs(one)
    return _human_eval(one) | {
        "contract": "",
        "base_input": inputs[:1],
        "plus_input": inputs[1:],
        "atol": 0,
    }


def _numpy_test(one: Problem) -> str:
    return (
        "import numpy as np\n\ndef is_floats(x) -> bool:\n    return isinstance(x, float)\n\n\n"
        "def assertion(out, exp, atol):\n    exact_match = out == exp\n"
        "    if atol == 0 and is_floats(exp):\n        atol = 1e-6\n"
        "    if not exact_match and atol != 0:\n"
        "        assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n"
        "    else:\n        assert exact_match\n\n\n"
        f"inputs = {_inputs(one)!r}\nresults = {[due for _, due in one.cases]!r}\n"
    )


def human_eval_plus_hub(one: Problem) -> dict[str, Any]:
    """As the hub has it: test code with numpy."""
    head, _, tables = _numpy_test(one).partition("inputs = ")
    loop = (
        f"def check(candidate):\n    inputs = {tables.replace('results', '    results')}"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
        "        assertion(candidate(*inp), exp, 0)\n"
    )
    return _human_eval(one) | {"test": head + loop}


def mbpp_plus(one: Problem) -> dict[str, Any]:
    loop = (
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
        f"    assertion({one.name}(*inp), exp, 0)\n"
    )
    return {
        "task_id": PROBLEMS.index(one),
        "code": one.source,
        "prompt": one.text,
        "source_file": "Benchmark Questions Verification V2.ipynb",
        "test_imports": [],
        "test_list": _asserts(one, one.name),
        "test": _numpy_test(one) + loop,
    }


def humaneval_x_javascript(one: Problem) -> dict[str, Any]:
    name = one.other_name
    lines = "".join(
        f"  console.assert(JSON.stringify({name}({json.dumps(x)})) === JSON.stringify("
        f"{json.dumps(y)}))\n"
        for x, y in one.cases
    )
    head = f"/* {one.text}\n*/\nconst {name} = (x) => {{\n"
    return {
        "task_id": f"JavaScript/{PROBLEMS.index(one)}",
        "prompt": head,
        "canonical_solution": one.javascript,
        "declaration": f"\nconst {name} = (x) => {{\n",
        "test": f"const test{name} = () => {{\n{lines}}}\n\ntest{name}()\n",
    }


def _literal(value: Any, kinds: dict[str, str]) -> str:
    if isinstance(value, list):
        return kinds["ints"] + "{" + ", ".join(map(str, value)) + "}"
    return json.dumps(value)


def humaneval_x_cpp(one: Problem) -> dict[str, Any]:
    name = one.other_name
    lines = "".join(
        f"    assert (({name}({_literal(x, CPP)}) == {_literal(y, CPP)}));\n" for x, y in one.cases
    )
    headers = ("vector", "string", "numeric", "algorithm")
    head = "".join(f"#include<{path}>\n" for path in headers) + "using namespace std;\n"
    head += f"{CPP[one.gives]} {name}({CPP[one.takes]} x){{\n"
    return {
        "task_id": f"CPP/{PROBLEMS.index(one)}",
        "prompt": f"/*\n{one.text}\n*/\n{head}",
        "declaration": head,
        "canonical_solution": one.cpp,
        "test": f"#undef NDEBUG\n#include<assert.h>\nint main(){{\n{lines}}}\n",
    }


def humaneval_x_go(one: Problem) -> dict[str, Any]:
    name = one.other_name[0].upper() + one.other_name[1:]
    lines = "".join(
        f"    assert.Equal({_literal(y, GO)}, {name}({_literal(x, GO)}))\n" for x, y in one.cases
    )
    library = 'import (\n    "sort"\n    "strings"\n)\n\n'
    head = f"func {name}(x {GO[one.takes]}) {GO[one.gives]} {{\n"
    return {
        "task_id": f"Go/{PROBLEMS.index(one)}",
        "prompt": f"{library}// {one.text}\n{head}",
        "import": library,
        "declaration": head,
        "canonical_solution": one.go,
        "test_setup": 'package main\n\nimport (\n    "testing"\n    '
        '"github.com/stretchr/testify/assert"\n)\n',
        "test": f"func Test{name}(t *testing.T) {{\n    assert := assert.New(t)\n{lines}}}\n",
    }


def kod_code(one: Problem) -> dict[str, Any]:
    tests = "".join(
        f"\ndef test_{one.name}_{number}():\n    {line}\n"
        for number, line in enumerate(_asserts(one, one.name))
    )
    return {
        "style": "instruct",
        "subset": "Leetcode",
        "question_id": f"Leetcode_{PROBLEMS.index(one)}_I",
        "question": one.text,
        "solution": one.source,
        "test": f"from solution import {one.name}\n{tests}",
        "test_info": [{"function_name": one.name, "parameter_list": "(x)"}],
        "gpt_difficulty": "easy",
    }


def big_code_bench(one: Problem) -> dict[str, Any]:
    lines = "".join(
        f"    def test_case_{number}(self):\n        result = task_func({given!r})\n"
        f"        self.assertEqual(result, {due!r})\n"
        for number, (given, due) in enumerate(one.cases)
    )
    return {
        "task_id": f"BigCodeBench/{PROBLEMS.index(one)}",
        "complete_prompt": "import random\n\ndef task_func(x):\n"
        f'    """\n    {one.text}\n    """\n',
        "instruct_prompt": f"{one.text}\nYou should write self-contained code starting with:\n"
        "```\nimport random\ndef task_func(x):\n```",
        "code_prompt": "import random\ndef task_func(x):\n",
        "canonical_solution": one.python,
        "test": f"import unittest\nclass TestCases(unittest.TestCase):\n{lines}",
        "entry_point": "task_func",
        "libs": "['random']",
    }


def code_contests(one: Problem) -> dict[str, Any]:
    inputs, outputs = zip(*one.stdio(), strict=True)
    return {
        "name": f"{PROBLEMS.index(one)}_A. {one.name}",
        "description": one.text,
        "public_tests": {"input": inputs[:1], "output": outputs[:1]},
        "private_tests": {"input": inputs[1:2], "output": outputs[1:2]},
        "generated_tests": {"input": inputs[2:], "output": outputs[2:]},
        "solutions": {"language": [3], "solution": [one.main]},
        "time_limit": {"seconds": 2, "nanos": 0},
    }


@dataclass(frozen=True, kw_only=True)
class Format:
    """How rows of a data set are made, and what a recipe says of them."""

    make: Callable[[Problem], dict[str, Any]]
    columns: dict[str, str]
    args: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        return [self.make(one) for one in PROBLEMS]


def _format(
    make: Callable[[Problem], dict[str, Any]], question: str, answer: str, **more: Any
) -> Format:
    args = {key: more.pop(key) for key in ("language", "packages") if key in more}
    return Format(make=make, columns={"question": question, "answer": answer, **more}, args=args)


BODY = {"prompt": "prompt"}
FORMATS = {
    "lcb_functional": _format(livecodebench_functional, "question_content", "solution"),
    "lcb_stdin": _format(livecodebench_stdin, "question_content", "solution"),
    "apps_calls": _format(apps_calls, "question", "solutions"),
    "apps_stdin": _format(apps_stdin, "question", "solutions"),
    "mbpp": _format(mbpp, "text", "code"),
    "humaneval": _format(human_eval, "prompt", "canonical_solution", **BODY),
    "humaneval_plus": _format(human_eval_plus, "prompt", "canonical_solution", **BODY),
    "humaneval_plus_hub": _format(
        human_eval_plus_hub, "prompt", "canonical_solution", packages=["numpy"], **BODY
    ),
    "mbpp_plus": _format(mbpp_plus, "prompt", "code", packages=["numpy"]),
    "humaneval_x_js": _format(
        humaneval_x_javascript, "prompt", "canonical_solution", language="javascript", **BODY
    ),
    "humaneval_x_cpp": _format(
        humaneval_x_cpp, "prompt", "canonical_solution", language="cpp", **BODY
    ),
    "humaneval_x_go": _format(
        humaneval_x_go, "prompt", "canonical_solution", language="go", **BODY
    ),
    "kodcode": _format(kod_code, "question", "solution"),
    "bigcodebench": _format(
        big_code_bench, "instruct_prompt", "canonical_solution", prompt="complete_prompt"
    ),
    "codecontests": _format(code_contests, "description", "solutions.solution"),
}
