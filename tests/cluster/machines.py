"""Machines on this one: each has a network, a name, processes and a shared memory of its own.

test ── stdin ── bash, process 1 of a machine ── Ray, the driver, ...
                      └ eth0 ── switch, one more network ── eth0 of the others

They see the same folders, as nodes of a cluster see their shared ones, but for Ray's. A machine
ends when its process 1 does, and that ends with the test, however the test ends: nothing stays.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname")
SPACES = ("--net", "--uts", "--mount", "--pid")
PROCESS_1 = """
hostname "$0" && mkdir -p /tmp/ray && mount -t tmpfs ray /tmp/ray && mount -t tmpfs shm /dev/shm &&
ip link set lo up && echo up && read -r _
"""


def no_machines() -> str | None:
    """Why machines cannot be made here; None where they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed: util-linux and iproute2 have them"
    try:
        with Network() as network:
            network.machine("probe").kill()
    except (OSError, RuntimeError) as error:
        return f"no namespaces can be made here, which takes root: {error}"
    return None


class Machine:
    """One of them. `address` is that of its network, None of the switch."""

    def __init__(self, name: str, address: str | None = None) -> None:
        """Raises RuntimeError where the kernel refuses."""
        self.name, self.address = name, address
        self._holder = subprocess.Popen(
            ["unshare", *SPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c"]
            + [PROCESS_1, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            _, words = self._holder.communicate()
            raise RuntimeError(words.strip())
        (self._first,) = psutil.Process(self._holder.pid).children()

    @property
    def pid(self) -> int:
        """Of its process 1, as seen from outside."""
        return self._first.pid

    def inside(self, words: Sequence[str], *, folder: Path | None = None) -> list[str]:
        """The command that runs another one on this machine, in `folder`."""
        spaces = ["nsenter", "--target", str(self.pid), *SPACES, "--"]
        return [*spaces, "env", f"--chdir={folder or Path.cwd()}", *words]

    def start(
        self,
        words: Sequence[str],
        *,
        log: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command that writes to `log`."""
        with log.open("a") as stream:
            return subprocess.Popen(
                self.inside(words, folder=folder),
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def kill(self) -> None:
        """As a power cut does: all its processes at once. Returns when they are gone."""
        if self._holder.poll() is None:
            self._first.send_signal(signal.SIGKILL)
        self._holder.communicate()


class Network:
    """Machines that reach each other, at 10.77.0.1 and on. Ends them all as it ends."""

    def __enter__(self) -> Self:
        self._switch = Machine("switch")
        self._machines: list[Machine] = []
        _ip(self._switch, "link add bridge type bridge", "link set bridge up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for machine in (*self._machines, self._switch):
            machine.kill()

    def machine(self, name: str) -> Machine:
        """One more. Raises RuntimeError where the kernel refuses."""
        number = len(self._machines) + 1
        machine = Machine(name, f"10.77.0.{number}")
        self._machines.append(machine)
        _ip(
            self._switch,
            f"link add port{number} type veth peer name eth0 netns {machine.pid}",
            f"link set port{number} master bridge",
            f"link set port{number} up",
        )
        _ip(machine, f"addr add {machine.address}/24 dev eth0", "link set eth0 up")
        return machine

    def unplug(self, machine: Machine) -> None:
        """Pull its cable: it runs on, and nothing of it is heard."""
        _ip(self._switch, f"link set port{1 + self._machines.index(machine)} down")


def _ip(machine: Machine, *commands: str) -> None:
    for command in commands:
        words = ["nsenter", "--target", str(machine.pid), "--net", "ip", *command.split()]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"ip {command}: {done.stderr.strip()}")
