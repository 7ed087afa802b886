"""Standard streams as a command finds them: closed, full, a pipe that nobody reads, or ASCII."""

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from pipeline.errors import FAILED, OK

Main = Callable[..., int]


def on_any_stream(main: Main) -> Main:
    """The same command line, for streams that are closed or take no Unicode.

    What a stream's encoding lacks is written as an escape. A reader that went away, such as `head`,
    has seen enough: the command ends quietly.
    """

    @functools.wraps(main)
    def guarded(arguments: Sequence[str] | None = None) -> int:
        _open_streams()
        output = sys.stdout
        try:
            code = main(arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            code = _left(output)
        except SystemExit:
            if sys.stdout is output:
                raise
            code = _left(output)  # Typer met the broken pipe, put a wrapper there and ended
        except OSError as error:
            if is_writable(output):
                raise
            code = _full(output, error)
        try:
            sys.stderr.flush()
        except OSError:
            _discard(sys.stderr)
        return code

    return guarded


@contextlib.contextmanager
def written(code: int) -> Iterator[Callable[[], int]]:
    """Surroundings that write an answer to standard output, and the exit code afterwards: `code`,
    or FAILED where the disk behind it is full."""
    result = code
    try:
        yield lambda: result
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except OSError as error:
        result = _full(sys.stdout, error)


def is_writable(output: TextIO) -> bool:
    """Whether what was printed so far can be handed on."""
    try:
        output.flush()
    except OSError:
        return False
    return True


def say(message: str) -> None:
    """A line on standard error, where anybody reads it."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:  # nobody reads it, or it is a file on a full disk
        _discard(sys.stderr)


def _left(output: TextIO) -> int:
    sys.stdout = output
    _discard(output)
    return OK


def _full(output: TextIO, error: OSError) -> int:
    _discard(output)
    say(f"standard output cannot be written: {error.strerror}")
    return FAILED


def _open_streams() -> None:
    """Give closed streams a place that swallows everything, and every stream escapes."""
    for number in range(3):  # a file that is opened later must not get the number of a stream
        try:
            os.fstat(number)
        except OSError:
            _swallow(number)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard(stream: TextIO) -> None:
    """What is left to be written is not, also when Python itself ends."""
    _swallow(stream.fileno())


def _swallow(number: int) -> None:
    place = os.open(os.devnull, os.O_RDWR)
    if place != number:
        os.dup2(place, number)
        os.close(place)
