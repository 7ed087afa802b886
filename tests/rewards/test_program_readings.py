"""Programs in what models write around and between their lines, and what is no program."""

import html
import json
import sys
import textwrap

import pytest

from rewards.newer_syntax import newer_syntax
from rewards.program_text import Wanted, program_in
from tests.rewards.cpu_budget import within_the_budget

FENCE = "```"
SPACE = "\u00a0"
CLAMP = """def clamp_to(value, low, high):
    if value < low:
        return low
    return high if value > high else value
"""
TYPED = """from typing import Tuple

def clamp_to(value: int, low: int, high: int) -> int:
    \"\"\"Keep "value" within bounds.\"\"\"
    if value < low and low <= high:
        return low
    elif value > high:
        return high
    return value
"""
ONE_LINE = "def clamp_to(value, low, high): return max(low, min(value, high))"
MAIN = """import sys
def main():
    a, b = map(int, sys.stdin.read().split())
    if a < b and b > 0:
        print(2 * (a + b))
main()
"""
SPANS = (
    '<div><pre><span class="k">def</span> <span class="nf">clamp_to</span>(value, low, high):\n'
    '    <span class="k">return</span> max(low, min(value, high))\n</pre></div>'
)
CURLY = (
    "def clamp_to(value, low, high):\n"
    "    kind = \u201clow\u201d if value < low else \u2018ok\u2019\n"
    "    return low if kind == \u201clow\u201d else min(value, high)\n"
)
SESSION = (
    ">>> def clamp_to(value, low, high):\n...     return max(low, min(value, high))\n...\n"
    ">>> clamp_to(5, 1, 3)\n3\n"
)


def numbered(code: str, mark: str) -> str:
    lines = enumerate(code.splitlines(), start=1)
    return "".join(f"{number:>2}{mark} {line}\n" for number, line in lines)


def fenced(code: str, name: str = "python") -> str:
    return f"{FENCE}{name}\n{code}{FENCE}\n"


RIGHT = {
    "page": f'<p>So:</p>\n<pre><code class="language-python">{html.escape(TYPED)}</code></pre>',
    "preformatted": f"Solution:\n\n<pre>\n{html.escape(CLAMP)}</pre>\nDone.",
    "breaks": "So:<br><code>"
    + html.escape(CLAMP).replace("    ", "&nbsp;" * 4).replace("\n", "<br>\n")
    + "</code>",
    "coloured": SPANS,
    "entities in a fence": fenced(html.escape(CLAMP)),
    "backticks": f"It is one line: `{ONE_LINE}`. That is all.",
    "backticks and a name": "Use `clamp_to = lambda v, low, high: max(low, min(v, high))`.",
    "backticks around lines": f"`{CLAMP.strip()}`",
    "a fence on one line": f"{FENCE}python {ONE_LINE}{FENCE}",
    "a fence on one line, after words": f"The code: {FENCE}{ONE_LINE}{FENCE}",
    "no-break spaces": fenced(CLAMP.replace("    ", SPACE * 4)),
    "no-break spaces, no fence": f"So:\n\n{CLAMP.replace('    ', SPACE * 4)}\nHope this helps!",
    "session": f"Let me define it:\n\n{SESSION}",
    "session in a fence": fenced(SESSION, ""),
    "curly quotes": fenced(CURLY),
    "nothing between words": fenced(CLAMP.replace("return low", "return\u200b low")),
    "full width": fenced(
        CLAMP.replace("(value, low, high):", "\uff08value\uff0clow, high\uff09\uff1a")
    ),
    "dash": fenced(CLAMP.replace("value < low", "value \u2013 low < 0")),
    "JSON": json.dumps({"explanation": "It clamps.", "code": CLAMP}),
    "JSON in a fence": fenced(json.dumps({"solution": CLAMP}) + "\n", "json"),
    "CDATA": f"<answer><![CDATA[\n{CLAMP}]]></answer>",
    "three quotes": f"'''python\n{CLAMP}'''",
    "numbers": fenced(numbered(CLAMP, " ")),
    "numbers, colons": fenced(numbered(CLAMP, ":"), ""),
    "numbers, bars": fenced(numbered(CLAMP, " |")),
    "patch": fenced(
        "--- a/s.py\n+++ b/s.py\n@@ -0,0 +1,4 @@\n" + textwrap.indent(CLAMP, "+"), "diff"
    ),
    "indented": f"Use this:\n\n{textwrap.indent(CLAMP, '    ')}\nIt is simple.",
    "indented in a fence": fenced(textwrap.indent(CLAMP, "    ")),
    "into a file": fenced(f"cat > s.py <<'EOF'\n{CLAMP}EOF\npython s.py\n", "bash"),
    "file name": fenced(f"solution.py\n{CLAMP}", ""),
    "escaped": CLAMP.replace("_", "\\_"),
    "ends of lines": CLAMP.strip().replace("\n", "\\n"),
    "outline behind it": fenced(CLAMP) + fenced("def clamp_to(value, low, high):\n    ...\n"),
    "page with words that parse": f"<pre>{html.escape(CLAMP)}</pre><p>Complexity: O(n) &amp; O(1)",
    "element on a line": f"<source lang='python'>{CLAMP}</source>",
    "JSON text": fenced(json.dumps(CLAMP) + "\n", "json"),
    "quotation": textwrap.indent(CLAMP, "> "),
    "a fence that only closes": f"{CLAMP}{FENCE}\nThat works.",
    "a fence in a fence": f"{FENCE}python\n{FENCE}python\n{CLAMP}{FENCE}\n{FENCE}",
    "page, the last one": f"<pre>{html.escape(CLAMP.replace('<', '>'))}</pre><pre>{SPANS}</pre>",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT.keys())
def test_what_stands_around_a_program(text: str) -> None:
    space: dict[str, object] = {}
    exec(program_in(text, Wanted(names=("clamp_to",))), space)
    values = [space["clamp_to"](*case) for case in [(5, 1, 3), (-1, 0, 9), (4, 0, 9)]]  # type: ignore[operator]
    assert values == [3, 0, 4]


@pytest.mark.parametrize(
    "text",
    [
        f"<pre><code>{html.escape(MAIN)}</code></pre>",
        fenced(MAIN.replace("    ", SPACE * 4)),
        fenced(html.escape(MAIN)),
        json.dumps({"code": MAIN}),
        numbered(MAIN, " "),
    ],
)
def test_whole_programs(text: str) -> None:
    assert program_in(text, Wanted(reads=True)).split() == MAIN.split()


def test_a_command_in_backticks() -> None:
    text = "Run `print(2 * sum(map(int, input().split())))` and you are done."
    assert program_in(text, Wanted(reads=True)) == "print(2 * sum(map(int, input().split())))"


@pytest.mark.parametrize(
    "text",
    [
        f"First `{ONE_LINE}`, no, rather\n{fenced('def clamp_to(value, low, high:')}",
        "The function `clamp_to(value, low, high)` keeps it within bounds.",
        f"{CLAMP}\nNo, rather:\n{FENCE}\ndef clamp_to(value, low",
        f"{CLAMP}\nNo, rather:\n{FENCE}python\nvalue, low = 1 +",
        f"{fenced(CLAMP)}Better:\n{fenced('def clamp_to(value, low, high) return low')}",
    ],
)
def test_an_earlier_program_is_none(text: str) -> None:
    with pytest.raises(SyntaxError):
        exec(program_in(text, Wanted(names=("clamp_to",))), {})


@pytest.mark.parametrize("quote", ["\u201cx\u201d", "a\u00a0b"])
def test_a_program_that_runs_is_not_changed(quote: str) -> None:
    program = f'def clamp_to():\n    return "{quote} &lt; \\_"\n'
    assert program_in(fenced(program), Wanted(names=("clamp_to",))) == program


@pytest.mark.parametrize(
    "text",
    ["<code " * 9_000, "<<a\n" * 12_000, "`a``b" * 9_000, "1 x\n" * 12_000, ">>> x\n" * 9_000,
     "    x y\n" * 6_000, "\\n" * 20_000, "[" * 20_000],
)  # fmt: skip
def test_long_texts_take_no_time(text: str) -> None:
    with within_the_budget():
        program_in(text, Wanted(names=("clamp_to",)))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 runs it")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "def first[T](items: list[T]) -> T:\n    return items[0]",
            "type parameters of a function",
        ),
        ("class Box[T]:\n    pass", "type parameters of a class"),
        ("type Number = int | float\n", "a type statement"),
        ("def f(d):\n    return f'{d['a']}'", "an f-string within quotes of its own"),
        ("def f(:\n    pass", ""),
        ("type = 3", ""),
    ],
)
def test_syntax_of_a_newer_python_is_named(program: str, words: str) -> None:
    sentence = newer_syntax(program)
    assert sentence.startswith(words)
    assert bool(words) == ("needs Python 3.12, and programs run in Python 3.11" in sentence)
