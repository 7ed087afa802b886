"""The program in a completion: which block of code it is, or which part of prose.

Models write a solution and then an example, number their steps, forget to close a fence, or to
open one. What the tests ask for decides: the last block that defines it, or that reads and prints.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rewards.program_readings import as_typed, other_reading

MAX_TEXT = 200_000
"""Characters from the end that are looked at."""
MAX_TRIES = 200
"""Stretches of prose that are tried as code."""
_OPEN = re.compile(
    r"(?P<before>[^`~]*?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<name>[\w+#.-]*)(?P<rest>.*)"
)
_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})(.*)$", re.MULTILINE)
_MARKER = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
"""What begins an item of a list."""
_NAMES = {
    "python": {"python", "py", "python3", "py3", "python2", "ipython", "pycon", "sage"},
    "javascript": {"javascript", "js", "node", "jsx", "mjs"},
    "cpp": {"cpp", "c++", "cc", "cxx", "hpp"},
    "c": {"c", "h"},
    "go": {"go", "golang"},
}
"""What a fence is called, by language."""
_CODE_LINE = re.compile(
    r"(from\s+[\w.]+\s+import|import\s+\w|def\s+\w|async\s+def|class\s+\w|@\w|if\s.*:|for\s.*:"
    r"|while\s.*:|with\s.*:|try:|print\(|[\w,. \[\]]+\s*[-+*/|&]?=[^=]|#!|\w+\(.*\))"
)
_DEFINED = re.compile(
    r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)|^(\w+)[ \t]*(?::[^=\n]*)?=(?!=)", re.MULTILINE
)
_SESSION = re.compile(r"(?:>>>|In \[\d+\]:)(?: |$)")
_TYPED = re.compile(r"(?:>>>|\.\.\.|In \[\d+\]:|[ \t]+\.\.\.:)(?: |$)(?P<code>.*)")
"""What Python and IPython print before each line that is typed."""
_MAGIC = re.compile(r"^(?:[!%]\w|%%).*$", re.MULTILINE)
"""A command of a notebook, which is no Python."""
_LABEL = re.compile(r"^[ \t]*\[/?[A-Z]+\][ \t]*$", re.MULTILINE)
"""What prompts ask to put around code: ``[BEGIN]`` and ``[DONE]``, ``[PYTHON]``."""
_FILE_NAME = re.compile(r"\A\s*[\w/.-]+\.py:?[ \t]*\n")
"""A line above a program that says where it belongs."""
_QUOTES = ('"""', "'''")
_READS = re.compile(r"\binput\(|\bstdin\b|\bopen\((?:0|['\"]/dev/stdin)|\bfileinput\b|\bread\(0")
_CONTAINERS = {
    "Counter", "bool", "defaultdict", "deque", "dict", "float", "int", "list", "set", "str",
    "tuple",
}  # fmt: skip
_PRINTS = re.compile(r"\bprint\b|\bstdout\b|\bwrite\(")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the tests of a program ask for."""

    names: Sequence[str] = ()
    """Functions and classes that it must define; none when it is run as a whole."""
    reads: bool = False
    """Whether it gets standard input, when it is run as a whole."""
    language: str = "python"
    prompt: str = ""
    """Code that the completion may go on from, as HumanEval's ``prompt``."""


def program_in(text: str, wanted: Wanted) -> str:
    """The program in the text of an answer.

    The last fenced block that defines all that is wanted, or reads and prints; else the last one
    of the language, else the last one. Empty blocks do not count, and when all are there is no
    program. Without a fence, the code among the prose, or all of it. A body without its head is put
    after the prompt that has the head.
    """
    text = text[-MAX_TEXT:]
    fenced = list(_blocks(text))
    blocks = _of_language(fenced, wanted.language)
    if fenced:
        program = _chosen(blocks, wanted) if blocks else ""
    else:
        program = _in_prose(text, wanted) if wanted.language == "python" else text
    program = _continued(program, wanted)
    if wanted.language != "python":
        return program
    if _MAGIC.search(program) and not _parses(program):
        program = _MAGIC.sub("", program)
    if not _fits(program, wanted):
        program = _read_otherwise(text, program, wanted, fenced=bool(fenced))
    if not fenced and not re.search(r"[=(:]", program) and not _parses(program):
        return ""  # words alone
    return _FILE_NAME.sub("", program.removeprefix("\ufeff"))


def _read_otherwise(text: str, program: str, wanted: Wanted, *, fenced: bool) -> str:
    """A reading that fits, of the program; of all of the text where it has no block of code."""
    prose = _in_prose(as_typed(text), wanted) if not fenced else ""
    fences = list(_FENCE.finditer(text)) if fenced else []
    if len(fences) == 1 and not fences[0][1] and not _CODE_LINE.match(program.lstrip()):
        prose = _in_prose(text[: fences[0].start()], wanted)  # the one fence only closes
    parts = "" if fenced else text
    return other_reading(parts, (program, prose), lambda code: _fits(code, wanted))


def _fits(code: str, wanted: Wanted) -> bool:
    """Whether a text is a program, and one that could do what is wanted."""
    able = any(_defines(code, wanted.names)) if wanted.names else _PRINTS.search(code)
    return bool(able) and _parses(code) and not _is_literal(code)


def _is_literal(code: str) -> bool:
    """Whether a program is one value that is written out, such as a table in JSON."""
    if code.lstrip()[:1] not in ("'", '"', "[", "{", "("):
        return False
    body = ast.parse(code).body
    return len(body) == 1 and isinstance(body[0], ast.Expr) and _is_constant(body[0].value)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """(name, code) of the fenced blocks, also of one that is not closed (CommonMark, 4.5).

    A fence may be indented, quoted with ``>`` or stand after words on its line.
    """
    all_lines = text.splitlines(keepends=True)
    lines = iter(all_lines)
    number = 0
    for line in lines:
        number += 1
        opening = _OPEN.match(line)
        if opening is None or not _opens(opening):
            continue
        before, fence = opening["before"].expandtabs(), opening["fence"]
        quoted = before.lstrip().startswith(">")
        indent = len(before) if not before.strip() or _MARKER.fullmatch(before) else 0
        code = []
        for inner in lines:
            number += 1
            inner = re.sub(r"^[ \t]*> ?", "", inner) if quoted else inner
            if _closes(inner, fence) and not _in_docstring(code, all_lines[number:]):
                break
            stripped = inner.rstrip()
            ends = stripped.endswith(fence) and "#" not in stripped  # right behind the last line
            if ends and not _in_docstring([*code, inner], all_lines[number:]):
                code.append(_unindented(stripped.removesuffix(fence) + "\n", indent))
                break
            code.append(_unindented(inner, indent))
        if opening["name"].lower() in ("md", "markdown"):
            yield from _blocks("".join(code))
        else:
            yield opening["name"].lower(), "".join(code)


def _in_docstring(code: Sequence[str], rest: Sequence[str]) -> bool:
    """Whether a fence stands in a text of the code: its quotes are open, and close further on."""
    before = "".join(code)
    return any(
        before.count(quotes) % 2 and any(quotes in line for line in rest) for quotes in _QUOTES
    )


def _typed(code: str) -> str:
    """What was typed in a session, where the code is the record of one."""
    if not _SESSION.match(code.lstrip()):
        return code
    typed = map(_TYPED.match, code.splitlines())
    return "".join(f"{line['code']}\n" for line in typed if line)


def _opens(opening: re.Match[str]) -> bool:
    """Whether a line opens a block: a bare fence, or one with a language after some words."""
    if "`" in opening["rest"]:
        return False
    before = opening["before"]
    if not before.strip() or before.rstrip().endswith((">", ":")) or _MARKER.fullmatch(before):
        return True
    return bool(opening["name"]) and not opening["rest"].strip()


def _closes(line: str, fence: str) -> bool:
    text = line.strip()
    run = len(text) - len(text.lstrip(fence[0]))
    return run >= len(fence) and not re.match(r"[ \t]*\w", text[run:])


def _unindented(line: str, indent: int) -> str:
    """A line without the indentation of its fence."""
    expanded = line.expandtabs() if line[:indent].strip(" ") else line
    lead = len(expanded) - len(expanded.lstrip(" "))
    return expanded[min(indent, lead) :] if indent else line


def _of_language(blocks: list[tuple[str, str]], language: str) -> list[str]:
    """The blocks in that language; else those without a name; else all. Empty ones aside."""
    filled = [(name, code) for name, code in blocks if code.strip()]
    if language == "python":
        filled = [(name, _typed(code)) for name, code in filled]
    names = _NAMES.get(language, {language})
    tagged = [code for name, code in filled if name in names]
    if tagged:
        bare = [code for name, code in filled if name in names or not name]
        return bare if language == "python" else tagged
    bare = [code for name, code in filled if not name]
    return bare or [code for _, code in filled]


def _chosen(blocks: Sequence[str], wanted: Wanted) -> str:
    if wanted.language != "python":
        return blocks[-1]
    if not wanted.names:
        talking = [code for code in blocks if _PRINTS.search(code)]
        reading = [code for code in talking if _READS.search(code)] if wanted.reads else []
        whole = reading or talking
        return whole[-1] if whole else blocks[0]
    for measure in (all, any):
        fitting = [i for i, code in enumerate(blocks) if measure(_defines(code, wanted.names))]
        fitting = [i for i in fitting if not _is_outline(blocks[i], wanted.names)] or fitting
        if fitting:
            return _with_helpers(blocks[: fitting[-1]], blocks[fitting[-1]])
    return blocks[-1]


def _is_outline(code: str, names: Sequence[str]) -> bool:
    """Whether a function that is wanted has ``...`` in place of a body."""
    try:
        body = ast.parse(code).body if "..." in code else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name in names]
    ends = [node.body[-1] for node in functions if len(node.body) <= 2]
    return any(
        isinstance(end, ast.Expr) and isinstance(end.value, ast.Constant) and end.value.value is ...
        for end in ends
    )


def _defines(code: str, names: Sequence[str]) -> list[bool]:
    defined = _definitions(code)
    return [name in defined for name in names]


def _definitions(code: str) -> set[str]:
    return {function or name for function, name in _DEFINED.findall(code)}


def _with_helpers(earlier: Sequence[str], program: str) -> str:
    """The program after the imports and definitions of earlier blocks that it uses."""
    missing = set(re.findall(r"\w+", program)) - _definitions(program)
    helpers: list[str] = []
    for code in reversed(earlier):
        try:
            body = ast.parse(code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in reversed(body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names = {node.name}
            elif isinstance(node, ast.Assign) and _is_constant(node.value):
                names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            else:
                continue
            if names & missing or "*" in names:
                helpers.append(ast.get_source_segment(code, node) or "")
                missing |= set(re.findall(r"\w+", helpers[-1]))
    head = "\n".join(reversed(helpers))
    return f"{head}\n{program}" if head else program


def _is_constant(value: ast.expr) -> bool:
    """Whether a value is made of literals and empty containers: defining it has no effects."""
    return all(not isinstance(part, ast.Name) or part.id in _CONTAINERS for part in ast.walk(value))


def _in_prose(text: str, wanted: Wanted) -> str:
    """The longest stretch of lines that is a program, or all of the text when none is."""
    text = _LABEL.sub("", text)
    if _parses(text) or (wanted.prompt and _parses(wanted.prompt + text)):
        return text
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if _CODE_LINE.match(line)]
    tries = 0
    for start in starts:
        ends = [i for i in range(len(lines), start, -1) if _may_end(lines, i)]
        for end in ends:
            tries += 1
            if tries > MAX_TRIES:
                return text
            code = "\n".join(lines[start:end]) + "\n"
            if _parses(code) and (not wanted.names or any(_defines(code, wanted.names))):
                return code
    return text


def _may_end(lines: Sequence[str], end: int) -> bool:
    """Whether code may end before line `end`: at the end, an empty line, or unindented words."""
    return end == len(lines) or not lines[end].strip() or not lines[end][0].isspace()


def _parses(code: str) -> bool:
    """Whether Python would take it: also a ``return`` outside of any function is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(code, "program", "exec", dont_inherit=True).co_code is not None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _continued(program: str, wanted: Wanted) -> str:
    """A body behind the head in the prompt, when the program is one."""
    prompt = wanted.prompt
    if not prompt or not wanted.names or any(_defines(program, wanted.names)):
        return program
    if wanted.language != "python":
        return f"{prompt}{program}"
    if not any(_defines(prompt, wanted.names)):
        return program
    for joint in ("" if prompt.endswith("\n") else "\n", "    "):
        if _parses(f"{prompt}{joint}{program}"):
            return f"{prompt}{joint}{program}"
    return program
