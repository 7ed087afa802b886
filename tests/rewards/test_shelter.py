"""Rewards that declare ``isolation = "sandbox"``: what they may do, may not do, and a refusal."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards import Pool, Reward, Sample, audit
from rewards.cases import Case
from rewards.sandbox import kernel
from rewards.sandbox.shelter import sheltered
from rewards.sandbox.ways import NoIsolation

USER_FILE = """
import os, signal, socket, sys, time
from pathlib import Path

HERE = Path(__file__).parent

def tried(sample):
    '''1.0 when the program in the completion runs without an error.'''
    exec(sample.completion, globals())
    return 1.0

tried.isolation = "sandbox"
tried.cpu_s = 1.0

def plain(sample):
    return float(os.getpid())
"""
NOWHERE = "/nowhere"
MAY = {
    "read beside itself": "assert HERE.joinpath('beside.txt').read_text() == 'x'",
    "import packages": "import sympy, rewards",
    "use a temporary file": "import tempfile\nwith tempfile.TemporaryFile() as f: f.write(b'x')",
    "start a program": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
}
MAY_NOT = {
    "write beside itself": "HERE.joinpath('beside.txt').write_text('y')",
    "write elsewhere": "open('/var/tmp/stepwell-mark', 'w')",
    "remove": "HERE.joinpath('beside.txt').unlink()",
    "change modes": "HERE.chmod(0o777)",
    "open a socket": "socket.socket()",
    "open a local socket": "socket.socket(socket.AF_UNIX)",
    "signal the pool": "os.kill(PARENT, 0)",
    "see the list of users": "open('/etc/passwd').read()",
    "see another folder": "os.listdir('/root') if os.getuid() == 0 else open('/root/x')",
    "read the parent's memory": "open('/proc/PARENT/environ', 'rb').read(1)",
    "see secrets": "os.environ['STEPWELL_SECRET']",
}


@pytest.fixture(params=["bubblewrap", "landlock"])
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    if request.param == "landlock":
        if kernel.landlock_version() < kernel.SIGNALS_SINCE:
            pytest.skip("the kernel has no such Landlock")
        monkeypatch.setenv("PATH", NOWHERE)
    elif shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is missing")
    monkeypatch.setenv("STEPWELL_SECRET", "x")
    shelter = sheltered(())
    shelter.close()
    assert shelter.way == request.param
    with Pool(1) as pool:
        yield pool


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(USER_FILE)
    (tmp_path / "beside.txt").write_text("x")
    return tmp_path


def judged(pool: Pool, base: Path, program: str) -> Reward:
    program = program.replace("PARENT", str(os.getpid()))
    sample = Sample(prompt="", completion=program)
    return pool.submit("mine.py:tried", sample, base=base).result()


def test_what_it_may_and_may_not_do(pool: Pool, base: Path) -> None:
    assert pool.describe("mine.py:tried", base=base).traits.isolation == "sandbox"
    for name, program in MAY.items():
        assert judged(pool, base, program).value == 1.0, name
    for name, program in MAY_NOT.items():
        reward = judged(pool, base, program)
        assert reward.verdict == "infra_error", name
        assert "raised" in reward.detail["error"], name
    assert (base / "beside.txt").read_text() == "x"


def test_it_is_limited_and_replaced_as_any_other(pool: Pool, base: Path) -> None:
    assert judged(pool, base, "while True: pass").verdict == "timeout"
    crashed = judged(pool, base, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert crashed.verdict == "infra_error"
    assert "SIGSEGV" in crashed.detail["error"]
    assert judged(pool, base, "pass").value == 1.0


def test_other_rewards_stay_outside(pool: Pool, base: Path) -> None:
    assert judged(pool, base, "pass").value == 1.0
    sample = Sample(prompt="", completion="")
    plain = pool.submit("mine.py:plain", sample, base=base).result()
    assert plain.value is not None
    assert Path(f"/proc/{int(plain.value)}/cmdline").exists()


def test_it_is_refused_where_no_isolation_can_be_had(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", NOWHERE)
    monkeypatch.setattr(kernel, "landlock_version", lambda: 0)
    with pytest.raises(NoIsolation, match="declare isolation process"):
        sheltered(())
    with Pool(1) as pool:
        reward = judged(pool, base, "pass")
        assert reward.verdict == "infra_error"
        assert "nothing isolates processes here" in reward.detail["error"]
        with pytest.raises(ValueError, match=r"mine.py:tried: it declares isolation sandbox"):
            pool.describe("mine.py:tried", base=base)
    with pytest.raises(ValueError, match="declares isolation sandbox"):
        audit.try_cases("mine.py:tried", [Case(Sample(prompt="", completion=""), True)], base=base)
