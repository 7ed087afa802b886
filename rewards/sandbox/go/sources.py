"""The files of a run in Go: the program is a package, its tests another one that imports it.

So nothing that a program declares, such as its own ``true`` or ``len``, changes what its tests
mean, and their imports do not meet.
"""

from __future__ import annotations

import re
import secrets

from rewards.sandbox.kinds import BadTests, Sourced

_LENT = (
    "math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand",
    "crypto/md5",
)  # fmt: skip
"""Packages that need no import, as in HumanEval-X' own judge."""
_OF_TESTS = ("testing", "github.com/stretchr/testify/assert", "github.com/stretchr/testify/require")
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+\w+[^\n]*", re.MULTILINE)
_IMPORT = re.compile(r'^[ \t]*import\b\s*(?:\((.*?)\)|((?:[\w.]+\s+)?(?:"[^"\n]*"|`[^`\n]*`)));?',
                     re.MULTILINE | re.DOTALL)  # fmt: skip
_SPEC = re.compile(r'(?:([\w.]+)[ \t]+)?["`]([^"`\n]+)["`]')
_NO_CODE = re.compile(
    r'/\*.*?\*/|//[^\n]*|`[^`]*`|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL
)
_TEST = re.compile(r"^func[ \t]+(Test\w*)[ \t]*\([ \t]*\w+[ \t]+\*testing\.T[ \t]*\)", re.MULTILINE)
_TOP = re.compile(r"^(?:func|type|var|const)[ \t]+(\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^func[ \t]+(\w+)[ \t]*[(\[]", re.MULTILINE)
_WHOLE = re.compile(r"^(?:func|type)[ \t]+(\w+)[^\n]*\{[ \t]*\n.*?^\}", re.MULTILINE | re.DOTALL)
_STARTS = re.compile(r"\s*^(?:package|import|func|type)\b", re.MULTILINE)
_HEAD = re.compile(r"^func[ \t]+(?:\([^)]*\)[ \t]*)?(\w+)", re.MULTILINE)


def files_of_tests(program: str, tests: Sourced) -> tuple[dict[str, str], str]:
    """(files, word): texts by name, and the last line that they print when all tests passed.

    Raises:
        BadTests: when there is no test function.
    """
    source = tests.source
    names = list(dict.fromkeys(_TEST.findall(_code(source))))
    if not names:
        raise BadTests(
            "test code in go has functions such as TestX(t *testing.T); this one has none"
        )
    word, salt = secrets.token_hex(16), secrets.token_hex(4)
    for name in names:  # a program may bring tests of its own
        source = re.sub(rf"\b{name}\b", f"{name}_{salt}", source)
    solution = _solution(program, tests.prompt)
    hidden = _hidden(solution, source)
    files = {
        "program.go": solution,
        "names.go": "package solution\n" + "".join(f"var Stepwell_{n} = {n}\n" for n in hidden),
        "tests.go": _tests(source, tests.setup, solution, hidden),
        "main.go": _main([f"{name}_{salt}" for name in names], word),
    }
    return files, word


def _code(text: str) -> str:
    """Go without its comments and what stands in quotes."""
    return _NO_CODE.sub(lambda match: '""' if match[0][0] in "\"`'" else " ", text)


def _imports(text: str) -> dict[str, str]:
    """What a text imports: names with paths."""
    specs = [spec for group, one in _IMPORT.findall(text) for spec in _SPEC.findall(group or one)]
    return {alias or _name(path): path for alias, path in specs}


def _name(path: str) -> str:
    """What a package is called: ``rand`` of ``math/rand/v2``."""
    return re.sub(r"/v\d+$", "", path).rpartition("/")[2]


def _used(imports: dict[str, str], text: str) -> str:
    """Import declarations for those that the text uses."""
    code = _code(text)
    used = {n: path for n, path in imports.items() if re.search(rf"(?<![\w.]){n}\.", code)}
    return "".join(f'import {name} "{path}"\n' for name, path in used.items())


def _solution(program: str, prompt: str) -> str:
    """The program as a package: with the head of its prompt, or what that defines besides."""
    program = _PACKAGE.sub("", program, count=1)
    heads = _HEAD.findall(_code(prompt))
    lent = {_name(path): path for path in _LENT} | _imports(prompt)
    head = _IMPORT.sub("", _PACKAGE.sub("", prompt, count=1)).lstrip()
    own = {*_TOP.findall(_code(program)), *_HEAD.findall(_code(program))}
    if heads and heads[-1] not in own and not _STARTS.match(_code(program)):
        text = f"//line prompt.go:1\n{head.rstrip()}\n//line program.go:1\n{program}"
    else:
        wholes = [match[0] for match in _WHOLE.finditer(head) if match[1] not in own]
        text = "\n\n".join([f"//line program.go:1\n{program}", *wholes])
    for name in _imports(program):
        lent.pop(name, None)
    return f"package solution\n{_used(lent, text)}{text}\n"


def _hidden(solution: str, source: str) -> list[str]:
    """Functions of the program with small letters, which no other package sees, in the tests."""
    words = set(re.findall(r"\w+", _code(source))) - set(_TOP.findall(_code(source)))
    names = dict.fromkeys(_FUNCTION.findall(_code(solution)))
    return [name for name in names if name in words and name[0].islower() and name != "init"]


def _tests(source: str, setup: str, solution: str, hidden: list[str]) -> str:
    text = _IMPORT.sub("", _PACKAGE.sub("", source, count=1))
    lent = {_name(path): path for path in (*_LENT, *_OF_TESTS)}
    imports = _used(lent | _imports(setup) | _imports(source), text)
    shown = {name for name in _TOP.findall(_code(solution)) if name[0].isupper()}
    if shown & set(re.findall(r"\w+", _code(text))):
        imports += 'import . "solution"\n'
    if hidden:
        imports += 'import stepwell_solution "solution"\n'
    names = "".join(f"var {name} = stepwell_solution.Stepwell_{name}\n" for name in hidden)
    return f"package tests\n{imports}{names}//line tests.go:1\n{text}\n"


_MAIN = """\
package main

import (
\t"os"
\t"testing"
\t"testing/internal/testdeps"

\t"tests"
)

func main() {
\ttable := []testing.InternalTest{TABLE}
\tcode := testing.MainStart(testdeps.TestDeps{}, table, nil, nil, nil).Run()
\tif code != 0 {
\t\tos.Stderr.WriteString("Assertion failed\\n")
\t\tos.Exit(1)
\t}
\tos.Stdout.WriteString("\\nWORD\\n")
}
"""


def _main(names: list[str], word: str) -> str:
    table = ", ".join(f'{{"{name}", tests.{name}}}' for name in names)
    return _MAIN.replace("TABLE", table).replace("WORD", word)
