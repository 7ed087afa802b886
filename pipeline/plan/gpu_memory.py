"""Memory of a GPU: stated, or that of the GPUs here, or what recipes are planned for."""

import shutil
import subprocess
from functools import cache

from pipeline.recipe.hardware import Hardware

ASSUMED_GIB = 80.0  # of an A100 or H100
LIMIT_S = 5


def gpu_memory_gib(hardware: Hardware) -> float:
    """`hardware.gpu_memory_gib`; else of the smallest GPU here, else 80."""
    return hardware.gpu_memory_gib or smallest_here() or ASSUMED_GIB


@cache
def smallest_here() -> float | None:
    """GiB of the smallest GPU that nvidia-smi names; None where it names none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None
    return smallest_gib(done.stdout)


def smallest_gib(text: str) -> float | None:
    """From nvidia-smi's answer, a line of MiB for each GPU.

    >>> smallest_gib("81559\\n24576\\n")
    24.0
    """
    sizes = [float(line) for line in text.split() if line.isdecimal()]
    return min(sizes) / 1024 if sizes else None
