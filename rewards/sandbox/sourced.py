"""Tests written in another language: one source file of head, program and tests, but for Go.

Here the program shares a process with its tests, as in HumanEval-X and MultiPL-E. That the tests
ran to their end shows by a random word that only code behind them prints: a program that leaves
early, or patches the assertions before them, does not pass. One that reads its own file can.
"""

from __future__ import annotations

import re
import secrets

from rewards.sandbox.go.sources import files_of_tests
from rewards.sandbox.kinds import BadTests, Sourced

LANGUAGES = ("javascript", "c", "cpp", "go")
_FILES = {"javascript": "program.js", "c": "program.c", "cpp": "program.cpp"}
_C_WHOLE = re.compile(r"^\w[^\n;{}=#]*?\b(\w+)[ \t]*\([^;{}]*\)\s*\{.*?^\}", re.M | re.S)
_JS_WHOLE = re.compile(r"^(?:const|let|var|function)\s+(\w+)[^\n]*\{[ \t]*\n.*?^\}", re.M | re.S)
_WHOLES = {"javascript": _JS_WHOLE, "c": _C_WHOLE, "cpp": _C_WHOLE}
"""Functions with their bodies, closed at the beginning of a line."""
_HEADERS = re.compile(r"^[ \t]*(?:#[ \t]*include\b.*|using\b.*;)[ \t]*$", re.MULTILINE)
_SIGNATURE = re.compile(r"(?:const|let|var)\s+(\w+)\s*=|(\w+)\s*\([^{}]*\)\s*\{?\s*\Z")
_THROWING_ASSERT = (
    "console.assert = (ok, ...words) => { "
    'if (!ok) throw new Error(["Assertion failed", ...words].join(" ")); };'
)


def source_of_tests(program: str, tests: Sourced) -> tuple[dict[str, str], str]:
    """(files, word): texts by name, and the last line that they print when all tests passed.

    Raises:
        BadTests: when the tests are in no shape that is known.
    """
    if tests.language == "go":
        return files_of_tests(program, tests)
    source, word = _one_file(program, tests)
    return {_FILES[tests.language]: source}, word


def _one_file(program: str, tests: Sourced) -> tuple[str, str]:
    word = secrets.token_hex(16)
    code = tests.source
    if code.lstrip().startswith("}") and _balanced(_headed(program, tests)):
        code = code.lstrip()[
            1:
        ]  # MultiPL-E closes the function, which chat models close themselves
    head = _headed(program, tests)
    if tests.language == "javascript":
        return f"{head}\n;{_THROWING_ASSERT}\n{code}\nconsole.log('{word}');\n", word
    end = code.rfind("}")
    if end < 0 or not re.search(r"\bmain\s*\(", code):
        raise BadTests(
            f"test code in {tests.language} ends in a function main that asserts; this one has none"
        )
    printing = f'fflush(stdout); puts("\\n{word}");'
    body = f"{code[:end]}{printing}\n{code[end:]}"
    asserts = "#undef NDEBUG\n#include <assert.h>\n"  # again: a program may have its own macro
    return f"#include <stdio.h>\n{asserts}{head}\n{asserts}{body}", word


def _headed(program: str, tests: Sourced) -> str:
    """The program behind the row's prompt; when it brings the function, behind its headers.

    Functions that the prompt has whole are lent where the program leaves them out.
    """
    name = function_in(tests.prompt)
    if not name or _defines(program, name, tests.language):
        wholes = _WHOLES[tests.language].finditer(tests.prompt)
        lent = [one[0] for one in wholes if not _defines(program, one[1], tests.language)]
        return "\n".join([*_HEADERS.findall(tests.prompt), *lent, program])
    return f"{tests.prompt}{program}"


def function_in(prompt: str) -> str | None:
    """The function that a prompt ends in the head of."""
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", prompt, flags=re.DOTALL).rstrip()
    last = None
    for match in re.finditer(r"(?:const|let|var)\s+(\w+)\s*=\s*(?:async\s*)?\(", code):
        last = match[1]
    signature = _SIGNATURE.search(code)
    return last or (signature[2] if signature else None)


def _defines(program: str, name: str, language: str) -> bool:
    if language == "javascript":
        return re.search(rf"\b(?:const|let|var|function)\s+{name}\b", program) is not None
    return re.search(rf"[\w>&*]\s+[&*]*{name}\s*\(", program) is not None


def _balanced(code: str) -> bool:
    return code.count("{") == code.count("}")
