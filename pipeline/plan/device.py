"""`auto` as a device of this machine."""

import shutil
from pathlib import Path

from pipeline.recipe.hardware import Hardware


def device_of(hardware: Hardware) -> str:
    """`cpu` or `cuda`; `auto` is cuda where an NVIDIA driver is visible."""
    if hardware.device == "auto":
        return "cuda" if nvidia_driver() else "cpu"
    return hardware.device


def nvidia_driver() -> bool:
    """Whether this machine shows an NVIDIA driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
