"""Joules of a piece of work: measured where the machine lets us, estimated and labelled otherwise.

Sources, best first: "nvml" reads the GPUs' energy counters, "rapl" those of the CPU packages and
their memory, "analytic" multiplies FLOPs by an assumed constant. A source that does not see the
device that works (NVML for a CPU, RAPL for a GPU) is passed over. Counters are whole devices':
what else runs there is counted too.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import pynvml

Source = Literal["nvml", "rapl", "analytic"]

POWERCAP = Path("/sys/class/powercap")
LOOK_EVERY_S = 30.0
"""A RAPL counter wraps after about 262 kJ, a quarter of an hour at 300 W."""


@dataclass(frozen=True, kw_only=True)
class DeviceClass:
    """What the analytic estimate assumes of a device."""

    gpu: bool
    watts: float  # at full load
    peak_flops: float  # per second, in the usual training precision
    utilisation: float  # share of the peak that real work reaches: our assumption
    origin: str

    @property
    def joules_per_flop(self) -> float:
        """watts / (peak_flops * utilisation)."""
        return self.watts / (self.peak_flops * self.utilisation)


DEVICE_CLASSES: Mapping[str, DeviceClass] = {
    "cpu": DeviceClass(
        gpu=False,
        watts=270,
        peak_flops=40 * 2.3e9 * 64,
        utilisation=0.3,
        origin="Intel Xeon Platinum 8380: 270 W, 40 cores at 2.3 GHz (Intel's product page), "
        "64 float32 FLOPs a cycle with two AVX-512 units; 30 % of the peak assumed",
    ),
    "a100": DeviceClass(
        gpu=True,
        watts=400,
        peak_flops=312e12,
        utilisation=0.3,
        origin="NVIDIA A100 SXM data sheet: 400 W, 312 dense bf16 TFLOP/s; 30 % assumed",
    ),
    "h100": DeviceClass(
        gpu=True,
        watts=700,
        peak_flops=989e12,
        utilisation=0.3,
        origin="NVIDIA H100 SXM data sheet: 700 W, 989 dense bf16 TFLOP/s; 30 % assumed",
    ),
}
"""Assumptions, not measurements: token-by-token decoding uses far less than 30 % of a GPU. The
constant cancels where two methods on one device are compared."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What a meter found. `assumption` says what an analytic estimate rests on."""

    joules: float
    source: Source
    seconds: float
    assumption: str | None = None


class Counter(Protocol):
    """Energy counters of some devices."""

    source: Source

    def joules(self) -> float:
        """Energy since any fixed moment. Called at least every LOOK_EVERY_S."""
        ...


class EnergyMeter:
    """Measures what runs inside its `with` block.

    The block's FLOPs go to `add_flops`; they are used only where nothing can be measured.

    >>> with EnergyMeter("cpu", counter=None) as meter:
    ...     meter.add_flops(1e12)
    >>> meter.energy.source
    'analytic'
    """

    energy: Energy  # from the block's end on

    def __init__(
        self,
        device: str,
        *,
        counter: Counter | None | Literal["find"] = "find",
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`device` is one of DEVICE_CLASSES; `counter` None estimates whatever is there.

        Raises ValueError for an unknown device.
        """
        if device not in DEVICE_CLASSES:
            raise ValueError(f"device {device!r} is none of {', '.join(DEVICE_CLASSES)}")
        self._device = DEVICE_CLASSES[device]
        self._counter = find_counter(gpu=self._device.gpu) if counter == "find" else counter
        self._look_every_s = look_every_s
        self._flops = 0.0

    def add_flops(self, flops: float) -> None:
        """Count work for the analytic estimate."""
        self._flops += flops

    def __enter__(self) -> Self:
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._began_s = time.monotonic()
        self._began_joules = self._counter.joules() if self._counter is not None else 0.0
        if self._counter is not None:
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        seconds = time.monotonic() - self._began_s
        if self._counter is None:
            self.energy = Energy(
                joules=self._flops * self._device.joules_per_flop,
                source="analytic",
                seconds=seconds,
                assumption=f"{self._device.joules_per_flop:.2g} J per FLOP; {self._device.origin}",
            )
            return
        self._watcher.join()
        joules = self._counter.joules() - self._began_joules
        self.energy = Energy(joules=joules, source=self._counter.source, seconds=seconds)

    def _watch(self) -> None:
        """Look at the counter often enough to see every wrap."""
        assert self._counter is not None  # started only with one
        while not self._done.wait(self._look_every_s):
            self._counter.joules()


def find_counter(*, gpu: bool) -> Counter | None:
    """The counter that sees the device; None where there is none that we may read."""
    if gpu:
        return NvmlCounter.found()
    zones = rapl_zones(POWERCAP)
    return RaplCounter(zones) if zones else None


class RaplCounter:
    """Intel's and AMD's running average power limit counters, through Linux's powercap tree
    (kernel documentation, power/powercap): microjoules that wrap at `max_energy_range_uj`."""

    source: Source = "rapl"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = {zone: _microjoules(zone / "energy_uj") for zone in zones}
        self._ranges = {zone: _microjoules(zone / "max_energy_range_uj") for zone in zones}
        self._total = 0

    def joules(self) -> float:
        """Energy since construction."""
        for zone, before in self._zones.items():
            now = _microjoules(zone / "energy_uj")
            self._total += now - before if now >= before else now - before + self._ranges[zone]
            self._zones[zone] = now
        return self._total / 1e6


def rapl_zones(powercap: Path) -> list[Path]:
    """The readable zones that do not overlap: packages, and the memory that no package includes.

    "psys" holds the packages, "core" and "uncore" are inside them.
    """
    zones = []
    for zone in sorted(powercap.glob("intel-rapl*")):
        label, counter = zone / "name", zone / "energy_uj"
        if not label.is_file() or not os.access(counter, os.R_OK):
            continue
        name = label.read_text().strip()
        if name.startswith("package") or name == "dram":
            zones.append(zone)
    return zones


def _microjoules(path: Path) -> int:
    return int(path.read_text())


class NvmlCounter:
    """The energy counters of NVIDIA GPUs from Volta on (NVML's
    `nvmlDeviceGetTotalEnergyConsumption`: millijoules since the driver was loaded)."""

    source: Source = "nvml"

    def __init__(self, devices: Sequence[str]) -> None:
        """`devices`: indices or UUIDs; NVML is initialised.

        Raises NVMLError where a device is not there or has no counter.
        """
        self._handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(device))
            if device.isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(device)
            for device in devices
        ]
        self.joules()

    @classmethod
    def found(cls) -> "NvmlCounter | None":
        """The counters of the GPUs that CUDA_VISIBLE_DEVICES names, or of all; None: cannot."""
        try:
            pynvml.nvmlInit()
            devices = visible_devices(
                os.environ.get("CUDA_VISIBLE_DEVICES"), count=pynvml.nvmlDeviceGetCount()
            )
            return cls(devices) if devices else None
        except pynvml.NVMLError:  # no driver, no such device, or a GPU without a counter
            return None

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handles)) / 1e3


def visible_devices(setting: str | None, *, count: int) -> list[str]:
    """Indices or UUIDs of the GPUs in use, from CUDA_VISIBLE_DEVICES."""
    if setting is None:
        return [str(index) for index in range(count)]
    return [device.strip() for device in setting.split(",") if device.strip() not in ("", "-1")]
