"""The same verdicts from everywhere, under load, and as an ordinary user."""

import asyncio
import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from rewards import Pool, Sample

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "../shared/data"
MATHS = "builtin:math_answer"
NOBODY = 65534
BUSY = "while True: pass"
EVERY_KIND = [
    ("7", "\\boxed{7}"),
    ("7", "\\boxed{8}"),
    ("\\frac{1}{2}", "The answer is 0.5."),
    ("5", "9^9^9^9^9"),
    ("7", "\\boxed{7} no, \\boxed{8}"),
    ("4", "\\boxed{\\int_0^2 x^3 dx}"),
    ("4", ""),
]
SAMPLES = [Sample(prompt="", completion=text, gold=gold) for gold, text in EVERY_KIND]
DUE = ["correct", "wrong", "correct", "too_complex", "several_answers", "wrong", "no_answer"]

needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")


def verdicts(samples: Sequence[Sample], *, workers: int = 1) -> list[str]:
    with Pool(workers) as pool:
        futures = [pool.submit(MATHS, sample) for sample in samples]
        return [future.result().verdict for future in futures]


async def awaited(samples: Sequence[Sample]) -> list[str]:
    with Pool(1) as pool:
        futures = [asyncio.wrap_future(pool.submit(MATHS, sample)) for sample in samples]
        return [result.verdict for result in await asyncio.gather(*futures)]


def in_threads(samples: Sequence[Sample]) -> list[str]:
    """One pool, a thread for each sample."""
    with Pool(2) as pool, ThreadPoolExecutor(len(samples)) as threads:
        return [*threads.map(lambda s: pool.submit(MATHS, s).result().verdict, samples)]


@contextmanager
def all_cores_busy() -> Iterator[None]:
    command = [sys.executable, "-c", BUSY]
    busy = [subprocess.Popen(command) for _ in range(2 * len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def adversarial() -> list[Sample]:
    rows = json.loads((DATA / "verifier/math_adversarial_dev.json").read_text())
    return [Sample(prompt="", completion=r["pred"], gold=r["gold"], id=r["id"]) for r in rows]


def test_from_threads_and_from_a_loop() -> None:
    assert verdicts(SAMPLES) == DUE
    assert in_threads(SAMPLES) == DUE
    assert asyncio.run(awaited(SAMPLES)) == DUE


@needs_data
@pytest.mark.slow
def test_load_changes_no_verdict() -> None:
    samples = adversarial()
    calm = verdicts(samples)
    with all_cores_busy():
        assert verdicts(samples, workers=2) == calm
        assert in_threads(samples) == calm


@needs_data
@pytest.mark.slow
def test_from_a_ray_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    class Scorer:
        def verdicts(self, samples: Sequence[Sample]) -> list[str]:
            with Pool(1) as pool:
                return [pool.submit(MATHS, sample).result().verdict for sample in samples]

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        actor = ray.remote(Scorer).options(max_concurrency=4).remote()
        samples = adversarial()
        assert ray.get(actor.verdicts.remote(samples)) == verdicts(samples)
        assert ray.get(actor.verdicts.remote(SAMPLES)) == DUE
    finally:
        ray.shutdown()


@needs_bwrap
@needs_data
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the sandbox's tests directly")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing")
def test_the_sandbox_works_as_an_ordinary_user() -> None:
    """Cheats, hostile programs and break-outs, with root's rights given up before Python starts."""
    tests = [str(ROOT / f"tests/rewards/test_{name}.py") for name in ("code_tests", "shelter")]
    chosen = "cheats or hostile or gets_out or sleepers or stays or standard_input or shelter"
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *tests]
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, NOBODY, NOBODY)
        python = next(filter(lambda path: can_test(path, home), interpreters()), None)
        if python is None:
            pytest.skip("an ordinary user can run no interpreter that has pytest")
        done = as_nobody([python, *arguments, "--basetemp", f"{home}/pytest"], home)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout


def interpreters() -> list[str]:
    """Ours, and the system's of the same version: ours may be out of other users' sight."""
    system = shutil.which("python{}.{}".format(*sys.version_info), path="/usr/bin:/usr/local/bin")
    return [sys.executable, *([system] if system else [])]


def can_test(python: str, home: str) -> bool:
    program = "import subprocess, sys, pytest; subprocess.run([sys.executable, '-c', ''])"
    return as_nobody([python, "-c", program], home).returncode == 0


def as_nobody(command: list[str], home: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": home,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()]),
        },
        capture_output=True,
        text=True,
    )
