"""``builtin:code_tests``: references pass, cheats are refused, hostile programs are contained."""

import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rewards
from rewards import Pool, Reward, Sample
from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import Limits
from rewards.sandbox.kernel import SIGNALS_SINCE, landlock_version
from rewards.sandbox.kinds import BadTests, Call, Judged, Stdio
from rewards.sandbox.tests import read_tests
from rewards.sandbox.ways import Isolation, NoIsolation

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
HAS_LANDLOCK = landlock_version() >= SIGNALS_SINCE
needs_landlock = pytest.mark.skipif(not HAS_LANDLOCK, reason="the kernel has no such Landlock")
each_way = pytest.mark.parametrize(
    "way",
    [pytest.param("bubblewrap", marks=needs_bwrap), pytest.param("landlock", marks=needs_landlock)],
)
HOSTILE = json.loads(Path(__file__).with_name("hostile.json").read_text())
ADD = "def add(a, b):\n    return a + b\n"
ASSERTS = "assert add(1, 2) == 3\nassert add(5, 7) == 12\nassert add(100, -3) == 97\n"
JUDGED = "for a in (1, 5):\n    assert add(a, 2) == a + 2\n" + ASSERTS


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def graded(pool: Pool, program: str, columns: dict[str, Any], **args: Any) -> Reward:
    sample = Sample(prompt="", completion=program, columns=columns, id="case")
    return pool.submit("builtin:code_tests", sample, args=args).result()


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"tests": ASSERTS}, Call),
        ({"test_list": ["assert f([1], {2: (3,)}) == set([4])"]}, Call),
        ({"tests": "assert not f(1)\nassert f(2) is None\nassert -1 == f(3)"}, Call),
        ({"test": "def check(candidate):\n    assert candidate(1) == 2", "entry_point": "f"}, Call),
        ({"tests": [{"input": "1", "output": "2"}]}, Stdio),
        ({"tests": [{"args": [1, 2], "expected": 3}], "entry_point": "add"}, Call),
        ({"input_output": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}, Stdio),
        ({"input_output": {"inputs": [[1]], "outputs": [[2]], "fn_name": "f"}}, Call),
    ],
)
def test_tests_are_read(columns: dict[str, Any], kind: type) -> None:
    tests = read_tests(columns, None, entry_point=None)
    assert isinstance(tests, list)
    assert all(isinstance(test, kind) for test in tests)


def test_more_than_equalities_is_judged() -> None:
    tests = read_tests({"tests": JUDGED}, None, entry_point=None)
    assert isinstance(tests, Judged)
    assert tests.functions == ("add",)


@pytest.mark.parametrize("tests", ["assert (", [1], [{"args": [1], "expected": 1}]])
def test_bad_tests(tests: Any) -> None:
    with pytest.raises(BadTests):
        read_tests({"tests": tests}, None, entry_point=None)


@needs_bwrap
@pytest.mark.parametrize("tests", [ASSERTS, JUDGED])
@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (ADD, "passed"),
        (f"Here:\n```python\n{ADD}```", "passed"),
        ("def add(a, b):\n    return a - b", "wrong_answer"),
        ("def add(a, b):\n    raise ValueError", "error"),
        ("def add(a, b):\n    while True: pass", "timeout"),
        ("def add(a, b:", "error"),
        ("def plus(a, b):\n    return a + b", "error"),
        ("   ", "no_code"),
    ],
)
def test_verdicts(pool: Pool, tests: str, program: str, verdict: str) -> None:
    reward = graded(pool, program, {"tests": tests}, cpu_s=1)
    assert (reward.verdict, reward.value) == (verdict, float(verdict == "passed"))


@needs_bwrap
def test_partial_credit(pool: Pool) -> None:
    program = "def add(a, b):\n    return a + b if b > 0 else 0"
    reward = graded(pool, program, {"tests": ASSERTS}, partial=True)
    assert reward.value == pytest.approx(2 / 3)


@needs_bwrap
@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("[1, (2.5, None), {3: {4}}, 'é\\ud800', b'x', True, 10**60, 1j]", True),
        ("float('inf')", True),
        ("type('T', (int,), {'__eq__': lambda s, o: True, '__hash__': int.__hash__})(4)", False),
        ("iter([1])", False),
        ("type('T', (str,), {'__eq__': lambda s, o: True})('y')", False),
    ],
)
def test_values_travel_as_plain_data(pool: Pool, value: str, same: bool) -> None:
    source = value if same else "5"
    columns = {"tests": f"x = {source}\nassert f() == x"}
    assert graded(pool, f"def f():\n    return {value}", columns).value == float(same)


@needs_bwrap
def test_standard_input(pool: Pool) -> None:
    cases = [{"input": "3\n4\n", "output": "7"}, {"input": "1\n1\n", "output": "2\n"}]
    program = "print(int(input()) + int(input()))"
    assert graded(pool, program, {"tests": cases}).value == 1.0
    assert graded(pool, "print(7)", {"tests": cases}).verdict == "wrong_answer"
    assert graded(pool, "print(7)", {"tests": cases}, partial=True).value == 0.5
    endless = "while True: print('x' * 1000)"
    assert graded(pool, endless, {"tests": cases}).detail["trouble"] == "too much output"


@needs_bwrap
@pytest.mark.parametrize(
    ("language", "command", "program"),
    [
        ("javascript", "node", "console.log(require('fs').readFileSync(0, 'utf8').length)"),
        ("c", "gcc", '#include <stdio.h>\nint main() { int n = 0; while (getchar() >= 0) n++; printf("%d\\n", n); }'),  # noqa: E501
    ],
)  # fmt: skip
def test_other_languages(pool: Pool, language: str, command: str, program: str) -> None:
    if shutil.which(command, path="/usr/bin:/bin") is None:
        pytest.skip(f"{command} is not installed")
    columns = {"tests": [{"input": "abc", "output": "3"}]}
    assert graded(pool, program, columns, language=language).value == 1.0
    assert graded(pool, program + "!", columns, language=language).value == 0.0


def test_unknown_language_is_a_fault(pool: Pool) -> None:
    reward = graded(pool, ADD, {"tests": [{"input": "", "output": ""}]}, language="cobol")
    assert reward.verdict == "infra_error"


def test_no_tests_is_not_scored(pool: Pool) -> None:
    assert graded(pool, ADD, {}).value is None


@each_way
@needs_data
@pytest.mark.parametrize("tests", [ASSERTS, JUDGED])
def test_cheats_are_refused(pool: Pool, tests: str, way: Isolation) -> None:
    cheats = json.loads((DATA / "sandbox/cheats_dev.json").read_text())

    def value(program: str) -> float | None:
        return graded(pool, program, {"tests": tests}, isolation=way).value

    assert [cheat["id"] for cheat in cheats if value(cheat["code"]) != 0.0] == []
    assert value(ADD) == 1.0


@each_way
@needs_data
def test_hostile_programs_are_contained(pool: Pool, way: Isolation) -> None:
    before = set(os.listdir("/tmp"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = str(server.getsockname()[1])
        for case in json.loads((DATA / "sandbox/hostile_dev.json").read_text()):
            program = case["code"].replace("2024", port)
            columns = {"tests": [{"input": "", "output": "never"}]}
            reward = graded(pool, program, columns, cpu_s=1, isolation=way)
            assert reward.value == 0.0, case["id"]
            assert graded(pool, ADD, {"tests": ASSERTS}, isolation=way).value == 1.0
        with pytest.raises(BlockingIOError):
            server.accept()
    assert {name for name in os.listdir("/tmp") if name not in before and "fill" in name} == set()


def said(box: Box, program: str) -> bytes:
    """What a program prints in the sandbox."""
    run = box.run({"mode": "main", "program": program}, Limits(cpu_s=1))
    output = run.talk(b"") or b""
    run.end()
    return output


@each_way
@pytest.mark.parametrize("kind", ["break-out", "use", pytest.param("bomb", marks=pytest.mark.slow)])
def test_nothing_gets_out(
    way: Isolation, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each program prints True when it reaches what it should not; none harms the next one."""
    mark = tmp_path / "mark"
    mark.write_text("x")
    before, folders, make = mark.stat(), [], tempfile.mkdtemp

    def recorded(*args: Any, **kwargs: Any) -> str:
        folders.append(make(*args, **kwargs))
        return folders[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", recorded)
    with Box(way) as box:
        for case in HOSTILE:
            if case["kind"] == kind:
                output = said(box, case["code"].replace("MARK", str(mark)))
                assert b"True" not in output, case["id"]
                assert kind != "use" or b"fine" in output, case["id"]
                assert said(box, "print('well')") == b"well\n", case["id"]
    assert mark.stat() == before
    assert bool(folders) == (way != "bubblewrap")
    assert not any(map(os.path.exists, folders))


@each_way
def test_what_a_program_sees(way: Isolation) -> None:
    with Box(way) as box:
        known = {"PATH", "HOME", "TMPDIR", "PYTHONHASHSEED", "PWD", "LC_CTYPE"}
        seen = said(box, "import os; print(*os.environ)").decode().split()
        assert set(seen) <= known
        mounts = "print(any('shared' in line or 'home' in line for line in open('/proc/mounts')))"
        assert b"True" not in said(box, mounts)


@each_way
def test_sleepers_and_their_children_end(way: Isolation) -> None:
    """Also those that left the process group."""
    program = (
        "import os, time\nfor n in range(5):\n    if os.fork() == 0:\n"
        "        os.setsid()\n        if n % 2 and os.fork(): os._exit(0)\n"
        "        time.sleep(4321)\nprint(1)"
    )
    with Box(way) as box:
        zygote = inside(box)
        assert said(box, program) == b"1\n"
        assert inside(box) == zygote
    assert ends(zygote)


@each_way
def test_nothing_stays_when_the_worker_is_killed(way: Isolation) -> None:
    """A program sleeps in a sandbox whose owner gets SIGKILL: both end, and the folder goes."""
    program = (
        "import os, sys\nfrom rewards.sandbox.box import Box\n"
        "from rewards.sandbox.boxed_run import Limits\nbox = Box(sys.argv[1])\n"
        "sleep = 'import time; print(1, flush=True); time.sleep(999)'\n"
        "run = box.run({'mode': 'main', 'program': sleep}, Limits())\n"
        "os.read(run.stdout, 9)\nprint(box._folder, flush=True)\nrun.talk(b'')"
    )
    command = [sys.executable, "-c", program, way]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    below = descendants(owner.pid)
    assert len(below) >= 2
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert ends(below)
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGSTOP])
@each_way
def test_a_program_that_somebody_killed_is_run_once_more(
    pool: Pool, way: Isolation, number: signal.Signals
) -> None:
    """Killed from outside, as by a kernel that is short of memory or a scheduler that wants its
    machine back, it is not the program's fault; one that kills itself does so again."""
    slow = (
        f"import time\nwhile time.process_time() < 2: pass  # {number:d}: no cached verdict\n{ADD}"
    )
    columns = {"tests": ASSERTS}
    assert graded(pool, ADD, columns, isolation=way).verdict == "passed"  # its sandbox is there
    before = descendants(os.getpid())
    sample = Sample(prompt="", completion=slow, columns=columns, id="slow")
    coming = pool.submit("builtin:code_tests", sample, args={"isolation": way})
    while not (programs := descendants(os.getpid()) - before):
        time.sleep(0.01)
    time.sleep(0.3)
    for program in programs:
        os.kill(program, number)
    assert not coming.done()
    assert (coming.result().value, coming.result().verdict) == (1.0, "passed")
    suicidal = f"import os\nos.kill(os.getpid(), {number:d})\n{ADD}"
    itself = graded(pool, suicidal, columns, isolation=way)
    assert (itself.value, itself.verdict) == (0.0, "error")
    expected = "it stopped itself" if number == signal.SIGSTOP else f"signal {number:d}"
    assert itself.detail["trouble"].startswith(expected)


def inside(box: Box) -> set[int]:
    """The processes of a sandbox that is at rest."""
    assert box._process is not None
    return {box._process.pid} | descendants(box._process.pid)


def descendants(ancestor: int) -> set[int]:
    found: set[int] = set()
    while more := {c for c, p in parents().items() if p in found | {ancestor}} - found:
        found |= more
    return living(found)


def parents() -> dict[int, int]:
    found = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name)] = int(fields[1])
    return found


def living(ids: set[int]) -> set[int]:
    """Those that have not ended; one that only waits for its parent to notice has."""
    found = set()
    for one in ids:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0]
            found |= {one} if state != "Z" else set()
    return found


def ends(ids: set[int]) -> bool:
    """Whether all of them end soon."""
    deadline_s = time.monotonic() + 20
    while living(ids) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not living(ids)


def test_refused_without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoIsolation, match="apt-get install bubblewrap"):
        Box("bubblewrap")
    with pytest.raises(NoIsolation, match="one of best, bubblewrap"):
        Box("chroot")  # type: ignore[arg-type]


@needs_landlock
def test_landlock_stands_in_for_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with Box() as box:
        assert box.way.name == "landlock"
        assert "seccomp" in box.way.layers


def test_none_must_be_said() -> None:
    sample = Sample(prompt="", completion=ADD, gold=ASSERTS)
    (reward,) = rewards.score("builtin:code_tests", [sample], args={"isolation": "none"})
    assert reward.value == 1.0


@needs_bwrap
@needs_data
@pytest.mark.slow
def test_humaneval_and_mbpp_references() -> None:
    with gzip.open(DATA / "humaneval/HumanEval.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    keys = ("test", "entry_point", "prompt")
    columns = [{key: row[key] for key in keys} for row in rows]
    for ending, right in ((None, 164), ("    return None\n", 0)):
        programs = [row["prompt"] + (ending or row["canonical_solution"]) for row in rows]
        assert _passed(programs, columns) == right
    rows = [json.loads(line) for line in (DATA / "mbpp/mbpp.jsonl").read_text().splitlines()]
    columns = [{key: row[key] for key in ("test_list", "test_setup_code")} for row in rows]
    assert _passed([row["code"] for row in rows], columns) >= 971


def _passed(programs: list[str], columns: list[dict[str, Any]]) -> int:
    pairs = zip(programs, columns, strict=True)
    samples = [Sample(prompt="", completion=program, columns=row) for program, row in pairs]
    results = rewards.score("builtin:code_tests", samples)
    return sum(result.value == 1.0 for result in results)
