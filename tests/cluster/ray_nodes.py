"""Ray on machines of a test, small and with a token, and runs that are driven from one of them."""

import secrets
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.machines import Machine
from tests.faults.launches import COMMAND

RAY = (sys.executable, "-P", "-m", "ray.scripts.scripts")
SMALL = ("--object-store-memory=200000000", "--disable-usage-stats", "--block")
STARTED = "Ray runtime started"
START_S = 180.0
RUN_S = 3600.0
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "RAY_prestart_worker_first_driver": "0",  # a process for each CPU, before one is needed
    "RAY_enable_worker_prestart": "0",
    "RAY_raylet_start_wait_time_s": "120",  # on cores that others use too
}


class RayNodes:
    """A Ray whose head is the first machine that joins."""

    def __init__(self, folder: Path) -> None:
        """Logs of Ray's, and its token, lie in `folder`."""
        self._folder = folder
        self._head: Machine | None = None
        (folder / "token").write_text(secrets.token_hex(32))

    @property
    def address(self) -> str:
        assert self._head is not None
        return f"{self._head.address}:6379"

    def join(self, machine: Machine, *, cpus: int) -> None:
        """Have a machine join. Returns when Ray runs there."""
        if self._head is None:
            self._head = machine
            words = ["--head", "--port=6379", "--include-dashboard=false"]
        else:
            words = [f"--address={self.address}"]
        words += [f"--node-ip-address={machine.address}", f"--num-cpus={cpus}", *SMALL]
        log = self._folder / f"{machine.name}.log"
        environment = self._environment | {"RAY_AUTH_MODE": "token"}
        process = machine.start([*RAY, "start", *words], log=log, environment=environment)
        end = time.monotonic() + START_S
        while STARTED not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)

    def drive(self, project: Path, *changes: str) -> subprocess.Popen[str]:
        """Start a run of a project of `tests.faults.launches`, its driver on the head."""
        assert self._head is not None
        words = [*COMMAND, f"hardware.ray_address={self.address}", *changes]
        log = project / "driver.log"
        return self._head.start(words, log=log, folder=project, environment=self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return ENVIRONMENT | {"RAY_AUTH_TOKEN_PATH": str(self._folder / "token")}


def ended(driver: subprocess.Popen[str], project: Path, *, code: int) -> str:
    """What a driver said by its end, which has this exit code."""
    end = driver.wait(RUN_S)
    words = (project / "driver.log").read_text()
    assert end == code, words
    assert "Traceback" not in words, words
    return words
