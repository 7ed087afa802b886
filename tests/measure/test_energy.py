"""Energy meters on a made-up powercap tree and a made-up NVML."""

import time
from pathlib import Path

import pynvml
import pytest

from pipeline.measure import energy
from pipeline.measure.energy import (
    DEVICE_CLASSES,
    EnergyMeter,
    NvmlCounter,
    RaplCounter,
    find_counter,
    rapl_zones,
    visible_devices,
)


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two packages, one with cores and memory inside, and the whole platform beside them."""
    zones = {
        "intel-rapl": None,
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
    }
    for folder, name in zones.items():
        (tmp_path / folder).mkdir()
        if name is not None:
            (tmp_path / folder / "name").write_text(f"{name}\n")
            (tmp_path / folder / "energy_uj").write_text("5000000\n")
            (tmp_path / folder / "max_energy_range_uj").write_text("262143328850\n")
    return tmp_path


def spend(powercap: Path, zone: str, microjoules: int) -> None:
    """Change a counter at once, as the kernel does: a reader sees no empty file."""
    (powercap / "next").write_text(f"{microjoules}\n")
    (powercap / "next").replace(powercap / zone / "energy_uj")


def test_zones_that_overlap_are_left_out(powercap: Path) -> None:
    names = [zone.name for zone in rapl_zones(powercap)]
    assert names == ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"]
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    assert len(rapl_zones(powercap)) == 2
    assert rapl_zones(powercap / "nowhere") == []


def test_rapl_adds_up_packages_and_memory(powercap: Path) -> None:
    with EnergyMeter("cpu", counter=RaplCounter(rapl_zones(powercap))) as meter:
        spend(powercap, "intel-rapl:0", 7_000_000)
        spend(powercap, "intel-rapl:0:0", 6_000_000)  # in the package
        spend(powercap, "intel-rapl:0:1", 5_500_000)
    assert meter.energy.joules == pytest.approx(2.5)
    assert meter.energy.source == "rapl"
    assert meter.energy.assumption is None
    assert meter.energy.seconds >= 0


def test_a_counter_that_wraps_goes_on_counting(powercap: Path) -> None:
    spend(powercap, "intel-rapl:0", 262_143_000_000)
    with EnergyMeter("cpu", counter=RaplCounter(rapl_zones(powercap))) as meter:
        spend(powercap, "intel-rapl:0", 671_150)
    assert meter.energy.joules == pytest.approx(1.0)


def test_a_long_block_is_looked_at_on_the_way(powercap: Path) -> None:
    """Two wraps inside one block are both seen."""
    counter = RaplCounter(rapl_zones(powercap))
    with EnergyMeter("cpu", counter=counter, look_every_s=0.005) as meter:
        for reading in (4_000_000, 3_000_000):
            before = counter._zones[powercap / "intel-rapl:0"]
            spend(powercap, "intel-rapl:0", reading)
            deadline = time.monotonic() + 10
            while counter._zones[powercap / "intel-rapl:0"] == before:
                assert time.monotonic() < deadline
                time.sleep(0.002)
    assert meter.energy.joules == pytest.approx(2 * 262_143.32885 - 2)


def test_without_a_counter_energy_is_estimated_and_says_so() -> None:
    with EnergyMeter("h100", counter=None) as meter:
        meter.add_flops(2e15)
        meter.add_flops(1e15)
    assert meter.energy.source == "analytic"
    assert meter.energy.joules == pytest.approx(3e15 * 700 / (989e12 * 0.3))
    assert meter.energy.assumption is not None
    assert "assumed" in meter.energy.assumption


def test_device_classes_are_named_with_their_origin() -> None:
    for device in DEVICE_CLASSES.values():
        assert "assumed" in device.origin
        assert 1e-13 < device.joules_per_flop < 1e-9
    with pytest.raises(ValueError, match="h100"):
        EnergyMeter("toaster")


def test_a_cpu_is_measured_by_rapl_where_it_can_be_read(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", powercap)
    found = find_counter(gpu=False)
    assert isinstance(found, RaplCounter)
    monkeypatch.setattr(energy, "POWERCAP", powercap / "nowhere")
    with EnergyMeter("cpu") as meter:
        pass
    assert meter.energy.source == "analytic"


def test_a_machine_without_the_driver_has_no_gpu_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert find_counter(gpu=True) is None


def test_the_watcher_ends_with_a_block_that_fails(powercap: Path) -> None:
    meter = EnergyMeter("cpu", counter=RaplCounter(rapl_zones(powercap)))
    with pytest.raises(KeyError), meter:
        raise KeyError("x")
    assert not meter._watcher.is_alive()
    assert meter.energy.source == "rapl"


class FakeNvml:
    """Two GPUs with a counter each, by index and UUID, in the library's place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.millijoules = {0: 1000, 1: 50_000}
        for name, function in (
            ("Init", lambda: None),
            ("DeviceGetCount", lambda: len(self.millijoules)),
            ("DeviceGetHandleByIndex", self.by_index),
            ("DeviceGetHandleByUUID", lambda uuid: self.by_index(int(uuid[-1:]))),
            ("DeviceGetTotalEnergyConsumption", self.energy),
        ):
            monkeypatch.setattr(pynvml, f"nvml{name}", function)

    def by_index(self, index: int) -> int:
        if index not in self.millijoules:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def energy(self, handle: int) -> int:
        if not self.millijoules[handle]:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return self.millijoules[handle]


@pytest.mark.parametrize(("devices", "joules"), [(["0", "1"], 42.5), (["GPU-1"], 40.0)])
def test_nvml_adds_up_the_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, devices: list[str], joules: float
) -> None:
    nvml = FakeNvml(monkeypatch)
    with EnergyMeter("a100", counter=NvmlCounter(devices)) as meter:
        nvml.millijoules = {0: 3500, 1: 90_000}
    assert meter.energy.joules == pytest.approx(joules)
    assert meter.energy.source == "nvml"


def test_a_gpu_without_a_counter_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = find_counter(gpu=True)
    assert isinstance(found, NvmlCounter)
    assert found.joules() == 50.0
    nvml.millijoules[1] = 0
    assert find_counter(gpu=True) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert find_counter(gpu=True) is None


def test_which_gpus_are_in_use() -> None:
    assert visible_devices(None, count=2) == ["0", "1"]
    assert visible_devices("1, GPU-ab", count=2) == ["1", "GPU-ab"]
    assert visible_devices("", count=2) == []
    assert visible_devices("-1", count=2) == []
