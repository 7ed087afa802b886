"""Calls of the Linux kernel that Python has no names for: Landlock, seccomp, capabilities, prctl.

They take rights away from the calling process and from what it will start. The text of this file
also runs inside the sandbox's first process, which is kept small, so it imports little. Landlock is
documented in the kernel's ``userspace-api/landlock.rst``; its numbers are the same on every
architecture, and the rest goes through the C library's wrappers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

DUMPABLE, KEEP_CAPABILITIES, SECCOMP, SUBREAPER, NO_NEW_PRIVILEGES = 4, 8, 22, 36, 38
"""Options of ``prctl``."""
DAC_READ_SEARCH = 2
"""The capability to read files whatever their permission bits say."""
SIGNALS_SINCE = 6
"""The first version of Landlock that also keeps signals inside."""

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REGULAR = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_MAKE_FIFO, _MAKE_LINK, _REFER = 1 << 10, 1 << 12, 1 << 13
_TRUNCATE, _DEVICE_CONTROL = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_CHANGE = (
    _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR | _MAKE_FIFO | _MAKE_LINK
    | _REFER | _TRUNCATE
)  # fmt: skip
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL
_ALL_TCP, _ALL_SCOPES = 3, 3

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("parent", ctypes.c_int32)]


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def landlock_version() -> int:
    """The version (ABI) of Landlock that the kernel offers; 0 when it has none."""
    return max(_libc.syscall(_CREATE, None, 0, 1), 0)


def ruleset(*, readable: Iterable[str], writable: Iterable[str], files: bool = True) -> int:
    """A descriptor of Landlock rules: read and execute below the one, change below the other.

    Paths that do not exist are left out. What the kernel's version knows besides is refused as a
    whole: TCP (4), signals and abstract sockets to the outside (6). Without `files`, nothing is
    said about those.

    Raises:
        OSError: when the kernel has no Landlock or refuses the rules.
    """
    version = landlock_version()
    known = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    size = 8 if version < 4 else 16 if version < SIGNALS_SINCE else 24
    demands = _Ruleset(known if files else 0, _ALL_TCP, _ALL_SCOPES)
    rules = _checked(_libc.syscall(_CREATE, ctypes.byref(demands), size, 0), "landlock")
    for paths, rights in ((readable, _READ), (writable, _READ | _CHANGE)):
        for path in paths:
            _allow(rules, path, rights & known)
    return rules


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine, or out of this user's reach anyway
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = _PathRule(rights, descriptor)
        _checked(_libc.syscall(_ADD, rules, 1, ctypes.byref(rule), 0), f"landlock rule for {path}")
    finally:
        os.close(descriptor)


def restrict(rules: int) -> None:
    """Put this process under Landlock rules, for good; they add to those it is under already.

    Raises:
        OSError: when the kernel refuses.
    """
    control(NO_NEW_PRIVILEGES, 1)
    _checked(_libc.syscall(_RESTRICT, rules, 0), "landlock")


def filter_calls(program: bytes) -> None:
    """Put this process under a seccomp filter, as :func:`rewards.sandbox.seccomp.program` makes it.

    Raises:
        OSError: when the kernel refuses.
    """
    control(NO_NEW_PRIVILEGES, 1)
    code = _Filter(len(program) // 8, program)
    _checked(_libc.prctl(SECCOMP, 2, ctypes.byref(code), 0, 0), "seccomp")


def control(option: int, value: int) -> None:
    """One ``prctl`` with a number.

    Raises:
        OSError: when the kernel refuses.
    """
    _checked(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def keep_capabilities(*numbers: int) -> None:
    """Give up every capability but these (all below 32).

    Raises:
        OSError: when this process does not have them.
    """
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    bits = sum(1 << number for number in numbers)
    data = (ctypes.c_uint32 * 6)(bits, bits, 0, 0, 0, 0)
    _checked(_libc.capset(header, data), "capset")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
