"""What the driver sends to other processes: light functions that travel by name."""

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

MODULES = (
    "pipeline.models.model_calls",
    "pipeline.train.training_calls",
    "pipeline.depth.depth_calls",
)
HEAVY = ("torch", "transformers", "trl", "vllm", "ray", "deepspeed")


@pytest.mark.parametrize("name", MODULES)
def test_a_call_travels_by_name(name: str) -> None:
    module = importlib.import_module(name)
    members = [member for _, member in inspect.getmembers(module, inspect.isfunction)]
    own = [function for function in members if function.__module__ == name]
    assert own
    for function in own:
        assert pickle.loads(pickle.dumps(function)) is function
        assert len(pickle.dumps(function)) < 200


def test_calls_load_nothing_heavy_where_they_are_written_down() -> None:
    program = f"import sys, {', '.join(MODULES)}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
