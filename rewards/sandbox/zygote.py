"""The process inside the sandbox that forks a child for every run.

Started as ``python -I -S -c SOURCE`` and kept small, as page faults dominate the cost of a fork:
it imports only C modules. It is process 1 of its own pid namespace, so that no child can signal
it and one call ends everything a run has left behind. It never sees an expected answer.

On its control socket it receives one message per run, with five descriptors: the job itself, the
run's requests and answers, its standard input and output. It answers with five numbers: status, CPU
seconds, peak KiB, whether the run stopped itself, whether files are left that resist removal.
"""

from __future__ import annotations

import _json
import _signal  # pyright: ignore[reportMissingImports]
import _socket
import gc
import marshal
import posix
import resource
import sys

ALONE = sys.argv[1] == "alone"  # process 1: everything else in the namespace is a run's
BLANK = "/dev/null"


def main() -> None:
    control = _socket.socket(fileno=int(sys.argv[3]))
    if sys.argv[2] != "-":
        posix.setgroups([])
        posix.setgid(int(sys.argv[2]))
        posix.setuid(int(sys.argv[2]))
    hide()
    _signal.signal(_signal.SIGALRM, end_everything)
    compile("1", "<warm>", "eval")
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    while True:
        body, ancillary, _, _ = control.recvmsg(16, _socket.CMSG_SPACE(20))
        if not body:
            return
        data = ancillary[0][2]
        job, *descriptors = [
            int.from_bytes(data[i : i + 4], sys.byteorder) for i in (0, 4, 8, 12, 16)
        ]
        text = posix.pread(job, posix.fstat(job).st_size, 0)
        posix.close(job)
        control.send(run(marshal.loads(text), descriptors))


def hide() -> None:
    """Make this process undumpable, so that no child can open its memory or descriptors."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (ImportError, OSError):
        pass
    for name in [name for name in sys.modules if "ctypes" in name]:
        del sys.modules[name]


child = 0


def end_everything(*_: object) -> None:
    try:
        if ALONE:
            posix.kill(-1, _signal.SIGKILL)
        elif child:
            posix.killpg(child, _signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(job: dict, descriptors: list[int]) -> bytes:
    global child
    child = posix.fork()
    if child == 0:
        status = 70
        try:
            begin(job, descriptors)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            status = 1
        finally:
            try:  # noqa: SIM105  contextlib is not imported here
                sys.stdout.flush()
            except BaseException:
                pass
            posix._exit(status & 255)
    for descriptor in descriptors:
        posix.close(descriptor)
    _signal.setitimer(_signal.ITIMER_REAL, job["wall_s"])
    _, status, usage = posix.wait4(child, posix.WUNTRACED)
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
    cpu_s = usage.ru_utime + usage.ru_stime
    return f"{status} {cpu_s:.4f} {usage.ru_maxrss} {stopped:d} {left}".encode()


def clean() -> int:
    """Empty /tmp; whether something resisted."""
    if not ALONE:
        return 0
    try:
        for name in posix.listdir("/tmp"):
            remove("/tmp/" + name)
        return 0
    except OSError:
        return 1


def remove(path: str) -> None:
    if posix.lstat(path).st_mode & 0o170000 != 0o040000:
        posix.unlink(path)
        return
    posix.chmod(path, 0o700)
    for name in posix.listdir(path):
        remove(path + "/" + name)
    posix.rmdir(path)


def begin(job: dict, descriptors: list[int]) -> None:
    """In the child: take the run's descriptors and limits, then do what the job says."""
    requests, answers, stdin, stdout = descriptors
    posix.setsid()
    posix.dup2(stdin, 0)
    posix.dup2(stdout, 1)
    blank = posix.open(BLANK, posix.O_WRONLY)
    posix.dup2(blank, 2)
    high = posix.dup(requests), posix.dup(answers)  # both above 4, as the control socket is open
    if job["mode"] == "serve":
        posix.dup2(high[0], 3)
        posix.dup2(high[1], 4)
        posix.closerange(5, 256)
    else:
        posix.closerange(3, 256)
    for name, soft, hard in job["limits"]:
        resource.setrlimit(getattr(resource, name), (soft, hard))
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    posix.chdir("/tmp" if ALONE else job["folder"])
    sys.argv[:] = ["program.py"]
    if job["mode"] == "command":
        command(job)
    elif job["mode"] == "main":
        module = sys.modules["__main__"] = type(sys)("__main__")
        exec(compile(job["program"], "program.py", "exec"), module.__dict__)
    else:
        serve(job, 3, 4)


def command(job: dict) -> None:
    """Write the program to a file, then become what runs it (after a compiler, if it has one)."""
    name = job["file"]
    descriptor = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600)
    program = job["program"].encode()
    while program:
        program = program[posix.write(descriptor, program) :]
    posix.close(descriptor)
    for argv in job["commands"][:-1]:
        pid = posix.fork()
        if pid == 0:
            try:
                posix.execve(argv[0], argv, job["environment"])
            finally:
                posix._exit(71)
        if posix.waitpid(pid, 0)[1] != 0:
            posix._exit(72)
    argv = job["commands"][-1]
    posix.execve(argv[0], argv, job["environment"])


def serve(job: dict, requests: int, answers: int) -> None:
    """Define the program, then evaluate what is asked, one answer to each request."""
    module = type(sys)(job["name"])
    sys.modules[job["name"]] = module
    space = module.__dict__
    write, read, encode, evaluate = posix.write, posix.read, encode_value, eval  # before patches

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

    if job["judge"]:
        judge(job, space, send, receive)
        return
    try:
        exec(compile(job["program"], "program.py", "exec"), space)
        send('"defined"')
    except BaseException as error:
        send(f'["raised", {name_of(error)}]')
        posix._exit(0)
    while True:
        source = receive()
        try:
            send(f'["value", {encode(evaluate(source, space), 0)}]')
        except BaseException as error:
            send(f'["raised", {name_of(error)}]')


def judge(job: dict, space: dict, send, receive) -> None:  # noqa: ANN001  functions of serve
    """Run trusted tests; each call of a function under test goes out and its result comes in."""
    plain = {"inf": float("inf"), "nan": float("nan"), "__builtins__": {}}
    plain.update(set=set, frozenset=frozenset, complex=complex, Opaque=Opaque)

    def proxy(name: str):  # noqa: ANN202  a function of any signature
        def call(*args: object, **kwargs: object) -> object:
            send(f'["call", "{name}", {encode_value(list(args), 0)}, {encode_value(kwargs, 0)}]')
            kind, _, text = receive().partition(" ")
            if kind == "raised":
                import builtins

                known = getattr(builtins, text, RuntimeError)
                raise known() if issubclass(known, Exception) else RuntimeError(text)
            return eval(text, dict(plain))

        return call

    try:
        exec(compile(job["setup"], "setup.py", "exec"), space)
        for name in job["functions"]:
            space[name] = proxy(name)
        exec(compile(job["program"], "tests.py", "exec"), space)
        if job["entry"] and "check" in space:
            space["check"](space[job["entry"]])
        send('["passed"]')
    except AssertionError:
        send('["failed", "AssertionError"]')
    except BaseException as error:
        send(f'["failed", {name_of(error)}]')


class Opaque:
    """Something that is no plain data: equal to nothing."""


def name_of(error: BaseException) -> str:
    name = type(error).__name__
    return _json.encode_basestring_ascii(name if type(name) is str else "Exception")


def encode_value(value: object, depth: int) -> str:
    """Plain data as JSON: numbers as text, containers tagged with their type."""
    if depth > 200:
        raise RecursionError
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    kind = type(value)
    if isinstance(value, str) and kind is str:
        return _json.encode_basestring_ascii(value)
    if isinstance(value, int):
        return f'["int", "{int.__format__(int.__index__(value), "x")}"]'
    if isinstance(value, float):
        return f'["float", "{float.__repr__(float.__float__(value))}"]'
    if isinstance(value, str):
        return _json.encode_basestring_ascii(str.__str__(value))
    if isinstance(value, complex):
        return f'["complex", "{value.real!r}", "{value.imag!r}"]'
    if isinstance(value, (bytes, bytearray)):
        return f'["bytes", "{bytes(value).hex()}"]'
    if isinstance(value, dict):
        pairs = [
            (encode_value(k, depth + 1), encode_value(v, depth + 1)) for k, v in dict.items(value)
        ]
        return f'["dict", [{", ".join([f"[{key}, {item}]" for key, item in pairs])}]]'
    for name, base in CONTAINERS:
        if isinstance(value, base):
            parts = [encode_value(item, depth + 1) for item in base.__iter__(value)]
            return f'["{name}", [{", ".join(parts)}]]'
    return f'["opaque", {_json.encode_basestring_ascii(kind.__name__)}]'


CONTAINERS: tuple = (("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset))


if __name__ == "__main__":
    main()
