"""Tests that need GPUs. STEPWELL_TEST_DEVICE=cpu runs what a CPU can, which tests the tests."""

import os
from dataclasses import replace

import pytest
import torch

from pipeline.generate.engine import EngineSettings
from tests.generate.engine_settings import cpu_settings

DEVICE = os.environ.get("STEPWELL_TEST_DEVICE", "cuda")


@pytest.fixture
def device() -> str:
    """Where models run. For a test that means something on a CPU, too."""
    return DEVICE


@pytest.fixture(autouse=True)
def enough_gpus(request: pytest.FixtureRequest) -> None:
    """Skips a test in words: `gpus(2)` marks one that needs two."""
    mark = request.node.get_closest_marker("gpus")
    needed = mark.args[0] if mark else 1
    if DEVICE == "cpu":
        if "device" not in request.fixturenames:
            pytest.skip("a CPU has nothing of what this tests")
        return
    if (there := torch.cuda.device_count()) < needed:
        pytest.skip(f"needs {needed} NVIDIA GPU(s), and torch {torch.__version__} sees {there}")


def settings(device: str, *, dtype: str = "float32", memory: float = 0.2) -> EngineSettings:
    """Of an engine for short requests, with a share of the GPU's memory."""
    return replace(
        cpu_settings(tokens=256, sequences=32, gib=1),
        device=device,
        dtype=dtype,
        gpu_memory_fraction=memory,
    )
