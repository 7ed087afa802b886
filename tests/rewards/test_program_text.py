"""Which part of a completion is the program."""

import textwrap

import pytest

from rewards.program_text import Wanted, program_in

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
IN_LIST = textwrap.indent(f"```python\n{ADD}```\n", "   ")
HELPED = "def add(a, b):\n    return plus(a, b)\n"
PLUS = "import operator\n\ndef plus(a, b):\n    return operator.add(a, b)\n\nprint(plus(1, 1))\n"


@pytest.mark.parametrize(
    "text",
    [
        ADD,
        f"Here:\n```python\n{ADD}```\nDone.",
        f"First try:\n```python\n{WRONG}```\nFixed:\n```py\n{ADD}```",
        f"```python\n{ADD}```\nUsage:\n```python\nprint(add(1, 2))\n```",
        f"```python\n{ADD}```\nOutput:\n```\n3\n```",
        f"```\n{ADD}```\nRun it:\n```bash\npython add.py\n```",
        f"```python\n{ADD}```\n```python\nfrom solution import add\ndef test_add():\n    "
        "assert add(1, 2) == 3\n```",
        f"1. Here:\n\n{IN_LIST}2. Done",
        f"1. ```python\n{textwrap.indent(ADD, '   ')}   ```",
        f"-\tSo:\n\t```python\n{textwrap.indent(ADD, chr(9))}\t```\n",
        "> ```py\n" + textwrap.indent(ADD, "> ") + "> ```\n",
        f"~~~python\n{ADD}~~~\nDone.",
        f"~~~~\n{ADD}~~~~",
        f"````markdown\n```python\n{ADD}```\n````",
        f"```python\n{ADD}",
        f"```python\n{ADD.rstrip()}```\nDone.",
        f"The answer: ```python\n{ADD}```.",
        f"<answer>```python\n{ADD}```</answer>",
        f'```python title="add.py"\n{ADD}```',
        f"Here is the function:\n\n{ADD}\nIt adds both numbers.",
        f"{ADD}\nExample:\n>>> add(1, 2)\n3",
        f"```python\n{PLUS}```\nWith it:\n```python\n{HELPED}```",
        "```python\nadd = lambda a, b: a + b\n```\n```text\n3\n```",
    ],
)
def test_the_block_that_defines_what_is_tested(text: str) -> None:
    space: dict[str, object] = {}
    exec(program_in(text, Wanted(names=("add",))), space)
    assert space["add"](1, 2) == 3  # type: ignore[operator]


@pytest.mark.parametrize(
    "text",
    [
        f"```python\n{ADD}```\nNo, better:\n```python\n{WRONG}```",
        f"{ADD}\nBut it should be\n```python\n{WRONG}```",
        f"`{ADD}`\n```python\n{WRONG}",
    ],
)
def test_the_last_one_counts(text: str) -> None:
    space: dict[str, object] = {}
    exec(program_in(text, Wanted(names=("add",))), space)
    assert space["add"](1, 2) == -1  # type: ignore[operator]


MAIN = "n = int(input())\nprint(n + 1)\n"


@pytest.mark.parametrize(
    "text",
    [
        MAIN,
        f"```python\n{MAIN}```\nInput:\n```\n3\n```\nOutput:\n```\n4\n```",
        f"```python\n{MAIN}```\nA test:\n```python\nprint(3 + 1)\n```",
        f"Read it and add one:\n{MAIN}\nThat is all there is to it.",
        f"Input:\n```\n3\n```\n```python3\n{MAIN}```",
    ],
)
def test_the_block_that_reads_and_prints(text: str) -> None:
    assert program_in(text, Wanted(reads=True)).strip() == MAIN.strip()


HEAD = 'from math import floor\n\ndef whole(x):\n    """Its whole part."""\n'


@pytest.mark.parametrize(
    "text", ["    return floor(x)\n", "```python\n    return floor(x)\n```", "return floor(x)"]
)
def test_a_body_goes_on_from_the_prompt(text: str) -> None:
    space: dict[str, object] = {}
    exec(program_in(text, Wanted(names=("whole",), prompt=HEAD)), space)
    assert space["whole"](2.5) == 2  # type: ignore[operator]


def test_another_program_does_not_go_on() -> None:
    other = "def other(x):\n    return x\n"
    assert program_in(other, Wanted(names=("whole",), prompt="Write whole(x).")) == other


def test_other_languages_take_their_own_block() -> None:
    text = "```cpp\nint main() {}\n```\n```bash\n./a.out\n```"
    assert program_in(text, Wanted(language="cpp")) == "int main() {}\n"


def test_an_empty_block_holds_no_program() -> None:
    assert program_in("```python\n```", Wanted(names=("add",))) == ""
    assert program_in(f"```python\n{ADD}```\n```\n```", Wanted(names=("add",))) == ADD


def test_long_prose_is_given_up() -> None:
    text = "x = 1\nno code here\n" * 5_000
    assert program_in(text, Wanted(names=("add",))) == text


@pytest.mark.parametrize(
    "text",
    [
        "```python\n>>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n```",
        "```pycon\n>>> import math\n>>> def add(a, b):\n...     return a + b\n```",
        "```python\nIn [1]: def add(a, b):\n   ...:     return a + b\n```",
        f"```python\n!pip install numpy\n%matplotlib inline\n{ADD}```",
        f"```python\n%%time\n{ADD}```",
        f"[BEGIN]\n{ADD}[DONE]\n",
        f"[PYTHON]\n{ADD}[/PYTHON]\nThat is it.",
        f"```python\n\ufeff{ADD}```",
        '```python\ndef add(a, b):\n    """The sum.\n\n    ```\n    add(1, 2)\n    ```\n    """\n'
        "    return a + b\n```",
        "```python\ndef add(a, b):\n    '''The sum.\n```\nadd(1, 2)\n```\n    '''\n"
        "    return a + b\n```",
        "```python\nZERO = 0\n```\n```python\ndef add(a, b):\n    return a + b + ZERO\n```",
        "```python\nfrom collections import defaultdict\nseen = defaultdict(int)\n```\n"
        "```python\ndef add(a, b):\n    return a + b + seen[a]\n```",
    ],
)
def test_notations_around_a_program(text: str) -> None:
    space: dict[str, object] = {}
    exec(program_in(text, Wanted(names=("add",))), space)
    assert space["add"](1, 2) == 3  # type: ignore[operator]


def test_an_earlier_example_is_no_helper() -> None:
    program = ADD.replace("a + b", "a + b  # result")
    text = f"```python\nresult = add(1, 2)\n```\n```python\n{program}```"
    assert "add(1, 2)" not in program_in(text, Wanted(names=("add",)))


@pytest.mark.parametrize(
    "text", ["Done.", "I cannot do that", "The sum of both numbers", "**Hm!**"]
)
def test_words_alone_are_no_program(text: str) -> None:
    assert program_in(text, Wanted(names=("add",))) == ""
