"""Ray itself: one started here or one that runs already, and places for the run's processes."""

import errno
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import psutil
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from pipeline.cluster.ray_token import Metadata, refusal, shown_token
from pipeline.errors import RunFailed, Stopped

PLACEMENT_WAIT_S = 120
MOST_NAMES = 3  # of machines that are gone, in a sentence
KEPT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
RAY_PROGRAMS = ("gcs_server", "raylet")  # without one of them, what is called waits for a minute
OBJECT_STORE_SHARE = 0.15  # of memory; it holds two buckets of weights on their way to engines
FREED_AT_ONCE = {"free_objects_period_milliseconds": 0}
"""Ray frees what nobody needs once a second as it comes (2.60), and buckets of weights come faster:
a cluster that others started holds those of a second."""
REACH_S = 5.0  # for a connection to an existing cluster
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""How a client of gRPC, which Ray speaks, begins: a preface and empty settings (RFC 9113, 3.4)."""
HEAD_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive"
CLIENT_METHOD = "/ray.rpc.RayletDriver/ClusterInfo"
"""What Ray's head answers, and behind `ray://` its client server (ray/protobuf, Ray 2.60)."""
NOT_RAY = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
)
"""Any other status is Ray's own, such as that of a request without its token."""
HTTP2_HEAD_BYTES, HTTP2_SETTINGS = 9, b"\x04"  # of a frame; the server's first is its settings too
SOCKET_PATH_BYTES = 107  # of an AF_UNIX address (unix(7)), without its closing zero
SOCKET_NAME = "/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
PROCESS_SETTINGS = {
    "PYTHONSAFEPATH": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TQDM_DISABLE": "1",  # a bar in a log is a line for every step of it
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""Of every process of a run, whose output goes to its log."""
JOIN = (
    "start one there with `ray start --head`, or leave hardware.ray_address out to start one here"
)


class ComponentFailed(RunFailed):
    """A process of the run died or raised; the message names it and quotes its log."""


class ComponentDied(ComponentFailed):
    """A process that had been working is gone, or was ended since it hung: another may take its
    place, and the work goes on from what is on disk."""


def join_ray(address: str | None, bundles: Sequence[Mapping[str, float]]) -> None:
    """Join the Ray at an address, or start one on this machine that has place for the bundles.

    Raises ComponentFailed where that cannot be done.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves us on shared cores
    settings: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": False,
        "runtime_env": {"env_vars": PROCESS_SETTINGS},
    }
    if address:
        check_reachable(address)
        settings |= {"address": address}
    else:
        check_socket_room()
        # threads are counted by us and time-share the cores: stages take turns
        cpus = sum(bundle["CPU"] for bundle in bundles)
        settings |= {
            "address": "local",
            "num_cpus": max(int(cpus), os.cpu_count() or 1),
            "include_dashboard": False,
            "object_store_memory": _object_store_bytes(),
            "_system_config": dict(FREED_AT_ONCE),
        }
    try:
        with signals_kept():
            ray.init(**settings)
    except SystemExit:  # Ray's own answer to SIGTERM while it starts: it is ours to answer
        signal.raise_signal(signal.SIGTERM)
        raise Stopped("stopped while Ray started; the same command goes on") from None
    except OSError as error:  # it keeps notes of its own below the home
        if address or error.errno not in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            raise _no_ray(address, error) from error
        raise ComponentFailed(
            f"Ray cannot be started on this machine: {error.filename}: {error.strerror}; set HOME "
            "and RAY_TMPDIR to folders that can be written"
        ) from error
    except Exception as error:  # what sockets, gRPC and Ray's own processes raise
        raise _no_ray(address, error) from error


def _no_ray(address: str | None, error: Exception) -> ComponentFailed:
    return ComponentFailed(
        f"Ray at {address} cannot be joined: {first_line(error)}; {JOIN}"
        if address
        else f"Ray cannot be started on this machine: {first_line(error)}"
    )


def ray_processes(address: str | None) -> list[tuple[str, psutil.Process]]:
    """Ray's own processes of this machine that the run needs, by name: those that were started
    here, or of a cluster that was joined those of this node."""
    if address is None:
        candidates = psutil.Process().children()
    elif (head := head_of(address)) is not None:
        candidates = [p for p in psutil.process_iter() if _serves(p, head)]
    else:
        candidates = []
    named = [(_name(process), process) for process in candidates]
    return [(name, process) for name, process in named if name in RAY_PROGRAMS]


def head_of(address: str | None) -> str | None:
    """HOST:PORT of the head of a cluster that was joined; None of one that was started here, or is
    reached through a server of its own (ray://)."""
    if address is None or address.startswith("ray://"):
        return None
    return ray.get_runtime_context().gcs_address


def _serves(process: psutil.Process, head: str) -> bool:
    """Whether a process is told of a cluster's head as Ray's own are (`--gcs-address`)."""
    with suppress(psutil.Error):
        return f"--gcs-address={head}" in process.cmdline()
    return False


def _name(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return process.name()
    return ""


def answers_soon(place: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = place.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), REACH_S):
        return True
    return False


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs: one that ended stays in the table until it is waited for."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def signals_kept() -> Iterator[None]:
    """Signals are handled afterwards as before: Ray puts a handler of its own for SIGTERM in their
    place, which ends the process in an abort."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in KEPT_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def reserve(
    bundles: list[dict[str, float]], *, growing: bool, poll: Callable[[], None] = lambda: None
) -> PlacementGroup:
    """A place for each bundle. A `growing` cluster, which may get more nodes, is waited for, and
    `poll` called meanwhile.

    Raises ComponentFailed when the cluster has less.
    """
    there = ray.cluster_resources()
    fits = all(sum(b.get(k, 0) for b in bundles) <= there.get(k, 0) for k in ("CPU", "GPU"))
    if fits or growing:
        placement = placement_group(bundles, strategy="PACK")
        for _ in range(PLACEMENT_WAIT_S):
            if placement.wait(1):
                return placement
            poll()
        remove_placement_group(placement)
        there = ray.cluster_resources()  # of nodes that came or went meanwhile
    gone = gone_nodes(ray.nodes())
    resources = ", ".join(f"{there.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
    raise ComponentFailed(
        f"the run needs places of {_shown(bundles)}, and the cluster has {resources}"
        + (f" after {PLACEMENT_WAIT_S:.0f} s" if growing else "")
        + (f"; gone from it: {gone}" if gone else "")
        + "; lower hardware.ranks or hardware.engines"
        + (", or set hardware.device: cpu" if any("GPU" in b for b in bundles) else "")
    )


def gone_nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The machines that a cluster had and has no more, from what Ray tells of its nodes."""
    there, gone = (
        {
            f"{n['NodeManagerHostname']} ({n['NodeManagerAddress']})"
            for n in nodes
            if n["Alive"] is a
        }
        for a in (True, False)
    )
    names = sorted(gone - there)
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return " and ".join([*names[:MOST_NAMES], *more])


def check_reachable(address: str) -> None:
    """Ray itself would try for minutes. "auto" and "local" are Ray's own words for this machine.

    Raises ComponentFailed where nobody listens, or something else than Ray, or it wants a token
    that this machine has not.
    """
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if not colon and address in ("auto", "local"):
        return
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ComponentFailed(f"hardware.ray_address {address}: write HOST:PORT, or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S) as line:
            line.sendall(HTTP2_HELLO)
            answer = line.recv(HTTP2_HEAD_BYTES)
    except OSError as error:
        raise ComponentFailed(f"no Ray cluster answers at {address} ({error}); {JOIN}") from error
    method = HEAD_METHOD if place == address else CLIENT_METHOD
    status = _status(place, method) if answer[3:4] == HTTP2_SETTINGS else NOT_RAY[0]
    if status in NOT_RAY:
        raise ComponentFailed(
            f"what listens at {address} is no Ray cluster; write the address that `ray start "
            f"--head` printed, whose port is 6379 unless you chose another, or {JOIN}"
        )
    if status == grpc.StatusCode.UNAUTHENTICATED:
        token = shown_token()
        if not token or _status(place, method, token=token) == status:
            raise ComponentFailed(refusal(address, token))


def _status(place: str, method: str, *, token: Metadata = ()) -> grpc.StatusCode:
    """What a server of gRPC says, soon, to a call of the method."""
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(place, options=options) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=REACH_S, metadata=token)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def check_socket_room() -> None:
    """Ray keeps its sockets in RAY_TMPDIR, TMPDIR or /tmp, with names of its own under it.

    Raises ComponentFailed where they would be too long, or the folder cannot be written.
    """
    key = next((key for key in ("RAY_TMPDIR", "TMPDIR") if key in os.environ), None)
    folder = "/tmp" if key is None else os.environ[key]
    named = folder if key is None else f"{key}={folder}"
    most = SOCKET_PATH_BYTES - len(SOCKET_NAME)
    if len(os.fsencode(folder)) > most:
        raise ComponentFailed(
            f"{named} is too long for Ray, whose sockets lie below it: {most} bytes at most; set "
            "RAY_TMPDIR=/tmp"
        )
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ComponentFailed(
            f"{named}: Ray cannot write there ({error.strerror}); set RAY_TMPDIR to a folder that "
            "can be written"
        ) from error


def _shown(bundles: Sequence[Mapping[str, float]]) -> str:
    """Equal places together: 1 x 1 CPU, 2 x 4 CPU + 1 GPU."""
    texts = [" + ".join(f"{count:g} {kind}" for kind, count in b.items()) for b in bundles]
    return ", ".join(f"{texts.count(text)} x {text}" for text in dict.fromkeys(texts))


def first_line(error: Exception) -> str:
    """What an error says first; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _object_store_bytes() -> int:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return int(pages * size * OBJECT_STORE_SHARE)
