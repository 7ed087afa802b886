"""Machines of namespaces: names and networks of their own, and nothing that stays."""

import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.machines import Network, no_machines

SERVE = "import socket; socket.create_server(('10.77.0.2', 5000)).accept(); input()"
KNOCK = "until exec 3<>/dev/tcp/10.77.0.2/5000; do sleep 0.1; done; hostname"


def test_machines_reach_each_other_and_leave_nothing(tmp_path: Path) -> None:
    if (why := no_machines()) is not None:
        pytest.skip(why)
    with Network() as network:
        near, far = network.machine("near"), network.machine("far")
        far.start([sys.executable, "-c", SERVE], log=tmp_path / "far.log")
        knock = near.start(["bash", "-c", KNOCK], log=tmp_path / "near.log", folder=tmp_path)
        assert knock.wait() == 0
        assert (tmp_path / "near.log").read_text().splitlines()[-1] == "near"
        left = psutil.Process(far.pid).children(recursive=True)
    assert socket.gethostname() != "near"
    assert not any(psutil.pid_exists(pid) for pid in (near.pid, far.pid))
    assert not any(process.is_running() for process in left)
