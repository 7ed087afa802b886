"""The process inside the sandbox that forks a child for every run.

Started as ``python -I -S -c SOURCE SETUP`` and kept small, as page faults dominate the cost of a
fork: it imports only C modules, and ctypes. No run can signal it, and one call ends everything
that a run has left behind: it is process 1 of its own pid namespace, or it and its runs are in a
Landlock domain of their own. It never sees an expected answer.

On its control socket it receives one message per run, with five descriptors: the job itself, the
run's requests and answers, its standard input and output. It answers with six words: status, CPU
seconds, peak KiB, whether the run stopped itself, whether files are left that resist removal, and
the bound that it passed, or a dash. Of a run that is not asked anything, the answers are its
standard error.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports]
import _socket
import gc
import marshal
import posix
import resource
import sys
import time

SETUP: dict = eval(sys.argv[1])  # of our own parent: plain data
"""``way``, ``uid``, ``folder``, ``control``, ``parent``, ``library``, ``readable``, ``filter``, the
``roots`` and ``modules`` of packages, the descriptor of ``parts``, and the source texts of
:mod:`rewards.sandbox.kernel` and :mod:`rewards.sandbox.program_side`."""
ALONE = SETUP["way"] != "none"  # whether all that this process may signal belongs to a run
FOLDER = SETUP["folder"]
BLANK = "/dev/null"
WATCH_S = 0.1
PAGE = resource.getpagesize()
TICKS = posix.sysconf("SC_CLK_TCK")


control = _socket.socket(fileno=SETUP["control"])
program_side = type(sys)("program_side")


def main() -> None:
    kernel = type(sys)("kernel")
    exec(SETUP["kernel"], kernel.__dict__)
    kernel.control(kernel.DUMPABLE, 0)  # no child can open its memory or descriptors
    sys.path += SETUP["roots"]
    for name in SETUP["modules"]:
        __import__(name)
    if SETUP["parts"] is not None:
        load_parts(SETUP["parts"])
    if SETUP["way"] == "landlock":
        withdraw(kernel)
    elif SETUP["uid"] is not None:
        become(SETUP["uid"])
    rules = None
    if ALONE and kernel.landlock_version():
        writable = [FOLDER, BLANK] if SETUP["way"] == "landlock" else [FOLDER, "/dev"]
        rules = kernel.ruleset(readable=SETUP["readable"], writable=writable)
    for name in [name for name in sys.modules if "ctypes" in name]:
        del sys.modules[name]
    exec(compile(SETUP["program_side"], "program_side.py", "exec"), program_side.__dict__)
    program_side.offer_exits()
    _signal.signal(_signal.SIGALRM, watch)
    _signal.signal(_signal.SIGTERM, leave)
    compile("1", "<warm>", "eval")
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while True:
        body, ancillary, _, _ = control.recvmsg(16, _socket.CMSG_SPACE(20))
        if not body:
            leave()
        data = ancillary[0][2]
        job, *descriptors = [
            int.from_bytes(data[i : i + 4], sys.byteorder) for i in (0, 4, 8, 12, 16)
        ]
        text = posix.pread(job, posix.fstat(job).st_size, 0)
        posix.close(job)
        protect = (lambda: kernel.restrict(rules)) if rules is not None else (lambda: None)
        control.send(run(marshal.loads(text), descriptors, protect))


def load_parts(descriptor: int) -> None:
    """Modules that runs may start, loaded once for all of them."""
    text = posix.pread(descriptor, posix.fstat(descriptor).st_size, 0)
    posix.close(descriptor)
    for name, code in marshal.loads(text):
        part = sys.modules[name] = type(sys)(name)
        exec(code, part.__dict__)


def become(uid: int) -> None:
    posix.setgroups([])
    posix.setgid(uid)
    posix.setuid(uid)


def withdraw(kernel) -> None:  # noqa: ANN001  a module made here
    """Without namespaces: take a user id of our own, and a domain that no signal leaves."""
    capabilities = []
    if SETUP["uid"] is not None:
        uid = SETUP["uid"] + posix.getpid()
        posix.chown(FOLDER, uid, uid)
        kernel.control(kernel.KEEP_CAPABILITIES, 1)
        become(uid)
        try:
            posix.stat(SETUP["library"])
        except PermissionError:  # in a folder of root's own; Landlock bounds what this opens
            capabilities = [kernel.DAC_READ_SEARCH]
    kernel.keep_capabilities(*capabilities)
    kernel.control(kernel.SUBREAPER, 1)  # what a run leaves behind becomes our child
    kernel.restrict(kernel.ruleset(readable=(), writable=(), files=False))
    kernel.filter_calls(SETUP["filter"])
    posix.listdir(SETUP["library"])
    try:
        posix.kill(SETUP["parent"], 0)
    except PermissionError:
        return
    raise SystemExit("a signal can leave the Landlock domain, or the parent is gone")


child = 0
spent_s = 0.0
bounds: dict = {}
passed_bound = "-"


def leave(*_: object) -> None:
    """End with everything of ours; the parent has gone or says so."""
    end_everything()
    if clean() == 0 and SETUP["way"] != "bubblewrap":
        try:  # noqa: SIM105  contextlib is not imported here
            posix.rmdir(FOLDER)
        except OSError:
            pass
    posix._exit(0)


def end_everything(*_: object) -> None:
    try:
        if ALONE:
            posix.kill(-1, _signal.SIGKILL)
        elif child:
            posix.killpg(child, _signal.SIGKILL)
    except ProcessLookupError:
        pass


def watch(*_: object) -> None:
    """Several times a second: end a run that passes a bound which no resource limit keeps."""
    global passed_bound
    try:
        if not control.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT):
            leave()  # a signal at the parent's death would not pass a change of user id
    except BlockingIOError:
        pass
    bound = "wall" if time.monotonic() > bounds["deadline"] else ALONE and too_much()
    if bound:
        passed_bound = bound
        end_everything()


def too_much() -> str:
    """The bound that the processes of the run together passed, or nothing."""
    global spent_s
    processes = cpu_s = memory_bytes = 0
    for name in posix.listdir("/proc"):
        if name.isdigit() and int(name) != posix.getpid():
            use = usage(int(name))
            if use is not None:
                processes, cpu_s, memory_bytes = (
                    processes + 1,
                    cpu_s + use[0],
                    memory_bytes + use[1],
                )
    spent_s = max(spent_s, cpu_s)
    if processes > bounds["processes"]:
        return "processes"
    if cpu_s > bounds["cpu_s"]:
        return "cpu"
    if SETUP["way"] == "landlock" and size(FOLDER) > bounds["file_bytes"]:
        return "files"  # bubblewrap's /tmp has a size of its own
    return "memory" if memory_bytes > bounds["memory_bytes"] else ""


def usage(pid: int) -> tuple[float, int] | None:
    """(CPU seconds, bytes of its own memory) of a process of the run; None for any other."""
    try:
        posix.kill(pid, 0)
        stat = text_of(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        pages = text_of(f"/proc/{pid}/statm").split()
    except OSError:
        return None
    return (int(stat[11]) + int(stat[12])) / TICKS, (int(pages[1]) - int(pages[2])) * PAGE


def text_of(path: str) -> bytes:
    descriptor = posix.open(path, posix.O_RDONLY)
    try:
        return posix.read(descriptor, 4096)
    finally:
        posix.close(descriptor)


def size(path: str) -> int:
    """Bytes of the files below a folder."""
    total = 0
    try:
        for name in posix.listdir(path):
            below = posix.lstat(f"{path}/{name}")
            is_folder = below.st_mode & 0o170000 == 0o040000
            total += size(f"{path}/{name}") if is_folder else below.st_blocks * 512
    except (OSError, RecursionError):
        pass
    return total


def run(job: dict, descriptors: list[int], protect) -> bytes:  # noqa: ANN001  a function
    global child, spent_s, passed_bound
    spent_s, passed_bound = 0.0, "-"
    bounds.update(job["bounds"], deadline=time.monotonic() + job["wall_s"])
    child = posix.fork()
    if child == 0:
        status = 70
        try:
            status = begin(job, descriptors, protect)
        finally:
            posix._exit(status & 255)
    for descriptor in descriptors:
        posix.close(descriptor)
    _signal.setitimer(_signal.ITIMER_REAL, WATCH_S, WATCH_S)
    _, status, use = posix.wait4(child, posix.WUNTRACED)
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    stopped = posix.WIFSTOPPED(status)
    end_everything()
    while True:
        try:
            posix.wait4(-1, 0)
        except ChildProcessError:
            break
    child = 0
    left = clean()
    cpu_s = max(use.ru_utime + use.ru_stime, spent_s)
    return f"{status} {cpu_s:.4f} {use.ru_maxrss} {stopped:d} {left} {passed_bound}".encode()


def clean() -> int:
    """Empty the private folder; whether something resisted."""
    try:
        for name in posix.listdir(FOLDER):
            remove(f"{FOLDER}/{name}")
        return 0
    except (OSError, RecursionError):
        return 1


def remove(path: str) -> None:
    if posix.lstat(path).st_mode & 0o170000 != 0o040000:
        posix.unlink(path)
        return
    try:
        names = posix.listdir(path)
    except PermissionError:
        posix.chmod(path, 0o700)
        names = posix.listdir(path)
    for name in names:
        remove(path + "/" + name)
    posix.rmdir(path)


def begin(job: dict, descriptors: list[int], protect) -> int:  # noqa: ANN001  a function
    """In the child: take the run's descriptors and limits, then do what the job says."""
    requests, answers, stdin, stdout = descriptors
    asked = job["mode"] == "serve"
    posix.setsid()
    blank = posix.open(BLANK, posix.O_WRONLY)
    posix.dup2(stdin, 0)
    posix.dup2(blank if asked else stdout, 1)  # nobody reads what one prints who is asked
    posix.dup2(blank if asked else answers, 2)
    protect()
    high = posix.dup(requests), posix.dup(answers)  # both above 4, as the control socket is open
    if asked:
        posix.dup2(high[0], 3)
        posix.dup2(high[1], 4)
        posix.closerange(5, 256)
    else:
        posix.closerange(3, 256)
    for name, soft, hard in job["limits"]:
        resource.setrlimit(getattr(resource, name), (soft, hard))
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    posix.chdir(FOLDER)
    sys.argv[:] = ["program.py"]
    if job["mode"] == "command":
        command(job)
    elif job["mode"] == "main":
        return program_side.run_whole(job)
    else:
        serve(job, 3, 4)
    return 0


def command(job: dict) -> None:
    """Write the program's files, then become what runs it (after a compiler, if it has one)."""
    for name, text in job["files"].items():
        descriptor = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600)
        program = text.encode()
        while program:
            program = program[posix.write(descriptor, program) :]
        posix.close(descriptor)
    for argv in job["commands"][:-1]:
        pid = posix.fork()
        if pid == 0:
            try:
                posix.dup2(2, 1)  # Go's compiler complains on its standard output
                posix.execve(argv[0], argv, job["environment"])
            finally:
                posix._exit(71)
        if posix.waitpid(pid, 0)[1] != 0:
            posix._exit(72)
    argv = job["commands"][-1]
    posix.execve(argv[0], argv, job["environment"])


def serve(job: dict, requests: int, answers: int) -> None:
    """Hand the program's side, or the judge's, its module and a way to speak with the outside."""
    module = type(sys)(job["name"])
    sys.modules[job["name"]] = module
    write, read = posix.write, posix.read  # before a program patches them

    def send(text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        data = len(data).to_bytes(4, "big") + data
        while data:
            data = data[write(answers, data) :]

    def receive() -> str:
        size = int.from_bytes(exactly(4), "big")
        return exactly(size).decode("utf-8", "surrogatepass")

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = read(requests, size - len(data))
            if not more:
                posix._exit(0)
            data += more
        return data

    if "part" in job:  # one of the two halves of a hearing
        job["compiled"] = program_side.compiled
        sys.modules[job["part"]].main(job, module.__dict__, send, receive)
        return
    program_side.serve(job, module.__dict__, send, receive)


if __name__ == "__main__":
    main()
