"""`auto` as a device of this machine."""

from pipeline.plan.device import device_of
from pipeline.recipe.hardware import Hardware


def test_a_stated_device_is_used() -> None:
    assert device_of(Hardware(device="cuda")) == "cuda"
    assert device_of(Hardware(device="cpu")) == "cpu"
    assert device_of(Hardware()) in ("cpu", "cuda")
