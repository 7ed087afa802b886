"""The bench: what is measured once, what is served when, and whose energy is counted."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.depth import bench as benches
from pipeline.depth.bench import Bench, Measurement
from pipeline.generate.groups import Group
from pipeline.measure.energy import Energy
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Prompt, Rollout, Scored
from pipeline.recurrent.request import DepthRequest

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9,
    }
)  # fmt: skip
GROUP = Group(
    prompt_id="p",
    samples=(
        Scored(
            rollout=Rollout(
                prompt_id="p",
                sample=0,
                seed=0,
                prompt_tokens=(1,),
                tokens=(2,),
                logprobs=(0.0,),
                stop="eos",
                weight_version=0,
                depths=(2,),
                flops=50.0,
            ),
            text="",
            reward=1.0,
            components={"answer": 1.0},
            verdicts={},
        ),
    ),
)


class Meter:
    """Notes when it starts; measures 3 joules."""

    def __init__(self, events: list[str], counter: Any) -> None:
        self.energy = Energy(joules=3.0, source="rapl" if counter else "analytic", seconds=1.0)
        self._events = events

    def __enter__(self) -> "Meter":
        self._events.append("meter")
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def add_flops(self, flops: float) -> None:
        assert flops == 50.0


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def sample(_: Any, __: Any, serve: Any, *___: Any, journal: Any, **____: Any) -> list[Group]:
        if not any(journal.folder.glob("depths-*")):
            serve()
            found.append("sample")
            (journal.folder / f"depths-{KEY}").mkdir(parents=True)
        return [GROUP]

    monkeypatch.setattr(benches, "serve", lambda *_, **__: found.append("serve"))
    monkeypatch.setattr(benches, "EnergyMeter", lambda _, counter="rapl": Meter(found, counter))
    monkeypatch.setattr(benches, "sample_in_chunks", sample)
    monkeypatch.setattr(benches, "depths_key", lambda _: KEY)
    return found


KEY = "key"


def measured(work: Path) -> Measurement:
    plan: Any = SimpleNamespace(name="depth", seed=3, spec=SPEC)
    ctx: Any = SimpleNamespace(
        work=work, plan=SimpleNamespace(device="cpu"), console=SimpleNamespace(log=print)
    )
    return Bench(plan, ctx).measure(
        work / "model",
        [Prompt(id="p", question="?")],
        DepthRequest(depth=2),
        entry="t",
        samples=1,
        area="a",
    )


def test_an_engines_start_is_not_in_the_first_settings_energy(
    tmp_path: Path, events: list[str]
) -> None:
    assert measured(tmp_path).joules_per_answer == 3.0
    assert events == ["serve", "meter", "sample"]


def test_what_was_measured_is_read_and_nothing_is_served_for_it(
    tmp_path: Path, events: list[str]
) -> None:
    first = measured(tmp_path)
    events.clear()
    assert measured(tmp_path).energy == first.energy
    assert "serve" not in events


def test_an_interrupted_measurement_has_estimated_joules(tmp_path: Path, events: list[str]) -> None:
    measured(tmp_path)
    (file,) = tmp_path.rglob("energy.json")
    assert json.loads(file.read_text())["source"] == "rapl"
    file.unlink()
    assert measured(tmp_path).energy.source == "analytic"
