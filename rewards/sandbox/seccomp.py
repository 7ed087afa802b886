"""A seccomp filter, as the bytes that bubblewrap takes: what no program under test has need of.

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
    "blocked": [
        41, 42, 43, 49, 50, 288,  # socket connect accept bind listen accept4
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240,  # System V and POSIX shared memory, queues
        101, 310, 311, 312, 434, 438, 424,  # ptrace, process_vm_*, kcmp, pidfd_*
        155, 161, 165, 166, 272, 308, 428, 429, 430, 431, 432, 433, 442,  # mounts, namespaces
        248, 249, 250, 298, 321, 323, 425, 426, 427,  # keys, perf, bpf, userfaultfd, io_uring
        163, 167, 168, 169, 172, 173, 175, 176, 246, 313, 320, 135, 153, 179, 180,  # administration
        304,  # open_by_handle_at
    ],
}  # fmt: skip
_AARCH64 = {
    "arch": 0xC00000B7,
    "clone": 220,
    "clone3": 435,
    "blocked": [
        198, 200, 201, 202, 203, 242,
        180, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197,
        117, 270, 271, 272, 434, 438, 424,
        39, 40, 41, 51, 97, 268, 428, 429, 430, 431, 432, 433, 442,
        217, 218, 219, 241, 280, 282, 425, 426, 427,
        89, 104, 105, 106, 142, 224, 225, 273, 294, 92, 58, 60, 265,
    ],
}  # fmt: skip
_NEW_NAMESPACES = 0x7E020000
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06


def program() -> bytes | None:
    """The compiled filter for this machine, or None where we have no table for it."""
    table = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine())
    if table is None:
        return None
    code = [
        (_LOAD, 0, 0, 4),  # architecture
        (_EQUAL, 1, 0, table["arch"]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # number of the call
        (_EQUAL, 0, 1, table["clone3"]),
        (_RETURN, 0, 0, _ENOSYS),
    ]
    for number in table["blocked"]:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    code += [
        (_EQUAL, 0, 3, table["clone"]),
        (_LOAD, 0, 0, 16),  # the low half of its first argument: the flags
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
