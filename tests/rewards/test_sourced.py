"""Tests in the program's own language, as HumanEval-X and MultiPL-E have them."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from rewards import Pool, Sample
from rewards.sandbox.kinds import BadTests, Sourced
from rewards.sandbox.sourced import function_in, source_of_tests
from rewards.sandbox.tests import read_tests

CPP_HEAD = (
    "/* Twice (x). */\n#include<vector>\n#include<cstdlib>\nusing namespace std;\n"
    "int twice(vector<int> xs){\n"
)
CPP_TEST = (
    "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (twice({1})==2);\n"
    "    assert (twice({3})==6);\n}\n"
)
CPP_PLUS = "}\nint main() {\n    auto candidate = twice;\n    assert(candidate({3}) == 6);\n}\n"
JS_HEAD = "/* Twice. */\nconst twice = (xs) => {\n"
JS_TEST = (
    "const testTwice = () => {\n  console.assert(twice([1]) === 2)\n"
    "  console.assert(twice([3]) === 6)\n}\n\ntestTwice()\n"
)
JS_PLUS = "const assert = require('node:assert');\nassert.deepEqual(twice([3]),6);"
CPP_PAIR = (
    "cpp",
    "/*\nAdds five.\n*/\n#include<string>\nusing namespace std;\nint shifted(int n){\n"
    "    if (n > 0) {\n        return n + 5;\n    }\n    return n + 5;\n}\n\n"
    "/* Takes it back. */\nint back(int n){\n",
    "test",
    "#undef NDEBUG\n#include<assert.h>\nint main(){\n    assert (back(shifted(3)) == 3);\n}\n",
)
JS_PAIR = (
    "javascript",
    "/* Adds five. */\nconst shifted = (n) => {\n  return n + 5;\n}\n\n/* Back. */\n"
    "const back = (n) => {\n",
    "test",
    "const testBack = () => {\n  console.assert(back(shifted(3)) === 3)\n}\n\ntestBack()\n",
)
HUMANEVAL_X_CPP = ("cpp", CPP_HEAD, "test", CPP_TEST)
HUMANEVAL_X_JS = ("javascript", JS_HEAD, "test", JS_TEST)
MULTIPL_E_CPP = ("cpp", CPP_HEAD, "tests", CPP_PLUS)
MULTIPL_E_JS = ("javascript", JS_HEAD, "tests", JS_PLUS)
BODY = "    return 2 * xs[0];\n}\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is missing")
    with Pool(1) as pool:
        yield pool


@pytest.mark.parametrize(
    ("row", "program", "value", "words"),
    [
        (HUMANEVAL_X_CPP, BODY, 1.0, ""),
        (HUMANEVAL_X_CPP, f"```cpp\n{CPP_HEAD}{BODY}```", 1.0, ""),
        (HUMANEVAL_X_CPP, f"```c++\nint twice(vector<int> xs) {{\n{BODY}```", 1.0, ""),
        (HUMANEVAL_X_CPP, "    return 2;\n}", 0.0, "wrong answer"),
        (HUMANEVAL_X_CPP, "    exit(0);\n}", 0.0, "it ended before its tests did"),
        (HUMANEVAL_X_CPP, "    _Exit(0);\n}", 0.0, "it ended before its tests did"),
        (HUMANEVAL_X_CPP, "#define assert(x)\nint twice(vector<int> xs) { return 2; }", 0.0,
         "wrong answer"),
        (HUMANEVAL_X_CPP, "    return two;\n}", 0.0, "error: ‘two’ was not declared"),
        (MULTIPL_E_CPP, "    return 2 * xs[0];\n", 1.0, ""),
        (MULTIPL_E_CPP, f"```cpp\n{CPP_HEAD}{BODY}```", 1.0, ""),
        (MULTIPL_E_CPP, "    return 2;\n", 0.0, "wrong answer"),
        (HUMANEVAL_X_JS, BODY, 1.0, ""),
        (HUMANEVAL_X_JS, f"```js\n{JS_HEAD}{BODY}```\n```bash\nnode a.js\n```", 1.0, ""),
        (HUMANEVAL_X_JS, "  return 2\n}", 0.0, "wrong answer"),
        (HUMANEVAL_X_JS, "  process.exit(0)\n}", 0.0, "it ended before its tests did"),
        (HUMANEVAL_X_JS, "console.assert = () => {};\nconst twice = () => 2", 0.0, "wrong answer"),
        (HUMANEVAL_X_JS, "  return two\n}", 0.0, "ReferenceError: two is not defined"),
        (MULTIPL_E_JS, BODY, 1.0, ""),
        (CPP_PAIR, "    return n - 5;\n}\n", 1.0, ""),
        (CPP_PAIR, "```cpp\nint back(int n) {\n    return n - 5;\n}\n```", 1.0, ""),
        (CPP_PAIR, f"```cpp\n{CPP_PAIR[1]}    return n - 5;\n}}\n```", 1.0, ""),
        (CPP_PAIR, "```cpp\nint back(int n) {\n    return n;\n}\n```", 0.0, "wrong answer"),
        (JS_PAIR, "  return n - 5;\n}\n", 1.0, ""),
        (JS_PAIR, "```js\nconst back = (n) => n - 5;\n```", 1.0, ""),
        (JS_PAIR, "```js\nconst back = (n) => n;\n```", 0.0, "wrong answer"),
        (MULTIPL_E_JS, "  return 2\n}", 0.0, "wrong answer"),
    ],
)  # fmt: skip
def test_rows(
    pool: Pool, row: tuple[str, str, str, str], program: str, value: float, words: str
) -> None:
    language, prompt, column, tests = row
    tool = {"cpp": "g++", "javascript": "node"}[language]
    if shutil.which(tool, path="/usr/bin:/bin") is None:
        pytest.skip(f"{tool} is not installed")
    columns = {"prompt": prompt, column: tests}
    sample = Sample(prompt="", completion=program, columns=columns)
    args: dict[str, Any] = {"language": language}
    reward = pool.submit("builtin:code_tests", sample, args=args).result()
    assert (reward.value, words in str(reward.detail)) == (value, True), reward.detail


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        (CPP_HEAD, "twice"),
        (JS_HEAD, "twice"),
        ("function twice(xs){\n", "twice"),
        ("// twice(x)\nstd::vector<int> twice(int n, char* s) {", "twice"),
        ("Write a function.", None),
    ],
)
def test_function_of_a_prompt(prompt: str, name: str | None) -> None:
    assert function_in(prompt) == name


def test_the_word_differs_each_time() -> None:
    tests = Sourced(source=JS_TEST, prompt=JS_HEAD, language="javascript")
    words = {source_of_tests(BODY, tests)[1] for _ in range(3)}
    assert len(words) == 3


def test_bad_tests_say_what_to_write() -> None:
    with pytest.raises(BadTests, match="test code runs in python, javascript, c, cpp, go"):
        read_tests({"test": JS_TEST}, None, entry_point=None, language="ruby")
    with pytest.raises(BadTests, match="ends in a function main"):
        source_of_tests(BODY, Sourced(source="int x;", prompt="", language="cpp"))
