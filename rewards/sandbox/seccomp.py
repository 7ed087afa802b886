"""A seccomp filter, as the kernel's bytes: what no program under test has need of.

Blocked calls fail with EPERM, and ``clone3`` with ENOSYS so that libraries fall back to ``clone``,
whose flags a filter can read. Numbers are the kernel's (``arch/x86/entry/syscalls``,
``include/uapi/asm-generic/unistd.h``).
"""

from __future__ import annotations

import platform
import struct

_X86_64 = {
    "arch": 0xC000003E,
    "clone": 56,
    "clone3": 435,
    "prlimit": 302,
    "blocked": [
        41, 42, 43, 49, 50, 288,  # socket connect accept bind listen accept4
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240,  # System V and POSIX shared memory, queues
        101, 310, 311, 312, 434, 438, 424,  # ptrace, process_vm_*, kcmp, pidfd_*
        155, 161, 165, 166, 272, 308, 428, 429, 430, 431, 432, 433, 442,  # mounts, namespaces
        248, 249, 250, 298, 321, 323, 425, 426, 427,  # keys, perf, bpf, userfaultfd, io_uring
        163, 167, 168, 169, 172, 173, 175, 176, 246, 313, 320, 135, 153, 179, 180,  # administration
        304, 319, 447,  # open_by_handle_at, memory that no limit counts
        141, 142, 144, 203, 251, 314,  # priorities and cores of other processes
        256, 279, 440, 448,  # memory of other processes
    ],
    "files": [
        90, 91, 92, 93, 94, 260, 268, 452,  # modes and owners
        188, 189, 190, 197, 198, 199, 463, 466, 132, 235, 261, 280, 469,  # attributes and times
    ],
}  # fmt: skip
_AARCH64 = {
    "arch": 0xC00000B7,
    "clone": 220,
    "clone3": 435,
    "prlimit": 261,
    "blocked": [
        198, 200, 201, 202, 203, 242,
        180, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197,
        117, 270, 271, 272, 434, 438, 424,
        39, 40, 41, 51, 97, 268, 428, 429, 430, 431, 432, 433, 442,
        217, 218, 219, 241, 280, 282, 425, 426, 427,
        89, 104, 105, 106, 142, 224, 225, 273, 294, 92, 58, 60, 265,
        279, 447,
        140, 118, 119, 122, 30, 274,
        238, 239, 440, 448,
    ],
    "files": [
        52, 53, 54, 55, 452,
        5, 6, 7, 14, 15, 16, 463, 466, 88, 469,
    ],
}  # fmt: skip
_NEW_NAMESPACES = 0x7E020000
_X32 = 0x40000000  # a second table of numbers for the same calls
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets of the low halves in seccomp_data


def program(*, own_files: bool = True) -> bytes | None:
    """The compiled filter for this machine, or None where we have no table for it.

    Without `own_files`, the user's files are in reach: Landlock guards what they hold, and the
    filter their modes, owners and times.
    """
    table = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine())
    if table is None:
        return None
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, table["arch"]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ENOSYS),
        (_EQUAL, 0, 1, table["clone3"]),
        (_RETURN, 0, 0, _ENOSYS),
    ]
    for number in [*table["blocked"], *([] if own_files else table["files"])]:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    code += [
        (_EQUAL, 0, 4, table["prlimit"]),  # limits of another process than oneself
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, table["clone"]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
