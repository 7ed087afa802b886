"""`stepwell launch --on ray` against a real Ray with a token: sent, stopped in the middle, sent
again, and it ends with a plain run's weights.

Takes an environment with `pip install "ray[default]"`, whose head has a job server.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.launch.slow_run import NAME, has_step, wait_until, weights, write_project

STEPS, STOPPED_AT = 40, 4
SERVER = ("aiohttp_cors", "opencensus", "smart_open", "virtualenv")  # of what ray[default] brings
RAY = (sys.executable, "-P", "-m", "ray.scripts.scripts")
STEPWELL = (sys.executable, "-m", "pipeline.cli.app")
NO_TOKEN: Mapping[str, str] = {}
TOKEN_KEYS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True, kw_only=True)
class Head:
    """A Ray that takes jobs from those who have its token."""

    address: str  # of its job server
    token: Path


def environment(home: Path) -> dict[str, str]:
    """Of a process whose home has no token, and that finds `ray`."""
    kept = {key: value for key, value in os.environ.items() if key not in TOKEN_KEYS}
    return kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """Ends with the test, and its processes with it."""
    token, log = tmp_path / "token", tmp_path / "head.log"
    token.write_text(secrets.token_hex(32))
    (tmp_path / "home").mkdir()
    port, sockets = free_port(), tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets: short names
    words = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={free_port()}"]
    words += [f"--ray-client-server-port={free_port()}", f"--dashboard-port={port}"]
    words += ["--num-cpus=4", "--object-store-memory=200000000", "--disable-usage-stats"]
    variables = environment(tmp_path / "home")
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    variables |= {"RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}
    variables["RAY_raylet_start_wait_time_s"] = "120"  # on cores that others use too
    with log.open("w") as stream:
        process = psutil.Popen(
            [*RAY, "start", *words, f"--temp-dir={sockets}"],
            env=variables,
            cwd=tmp_path / "home",
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None, log.read_text()
        yield Head(address=f"http://127.0.0.1:{port}", token=token)
    finally:
        children = process.children(recursive=True) if process.is_running() else []
        family = [process, *children]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family)
        shutil.rmtree(sockets, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(name) is None for name in SERVER), reason='needs pip install "ray[default]"'
)
def test_a_stopped_job_goes_on_in_the_next(
    head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, steps=STEPS)
    storage = tmp_path / "shared"
    run = storage / NAME
    launch = ["launch", "mine.yaml", "--on", "ray", "--address", head.address]
    launch += ["--storage", str(storage)]

    def stepwell(
        *words: str, code: int = 0, variables: Mapping[str, str] = NO_TOKEN
    ) -> tuple[str, str]:
        """What a command says on both streams."""
        done = subprocess.run(
            [*STEPWELL, *words],
            env=environment(tmp_path / "home") | dict(variables),
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    def error(*words: str, variables: Mapping[str, str] = NO_TOKEN) -> str:
        text = json.loads(stepwell(*words, "--json", code=2, variables=variables)[0])["error"]
        assert "\n" not in text
        return text

    for variables in (NO_TOKEN, {"RAY_AUTH_TOKEN": "wrong"}):
        refusal = error(*launch, variables=variables)
        assert refusal.startswith(f"the Ray cluster at {head.address} wants a token")
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert f"answers at {nowhere}" in error(*launch, "--address", nowhere)

    token = {"RAY_AUTH_TOKEN_PATH": str(head.token)}
    document = json.loads(stepwell(*launch, "--json", variables=token)[0])
    assert document["run_dir"] == str(run)
    assert head.token.read_text() not in json.dumps(document)

    def job(verb: str) -> dict[str, Any]:
        (row,) = json.loads(stepwell("launch", verb, "--json", variables=token)[0])["jobs"]
        assert row["id"] == document["job"]["id"]
        return row

    wait_until(lambda: has_step(run, STOPPED_AT))
    assert job("--status")["state"] == "RUNNING"
    _, words = stepwell("launch", "--status")
    assert "wants a token" in words
    assert job("--stop")["state"] == "STOPPED"
    assert "the same command goes on" in (run / "logs" / "run.log").read_text()
    assert not weights(run)

    said, followed = stepwell(*launch, variables=token)
    assert said == f"SUCCEEDED; run folder: {run}\n"
    assert f"step {STEPS}/{STEPS}" in followed
    assert json.loads(stepwell("verify", str(run), "--json")[0])["ok"]
    stepwell("run", "mine.yaml", "--run-dir", "plain")
    assert weights(run) == weights(Path("plain")) != {}
