"""The flow of a run, with stages and a cluster that only write down that they ran."""

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from pipeline import run as flow
from pipeline.artifacts import open_artifact
from pipeline.cluster import clean_up
from pipeline.cluster.ray_session import ComponentDied, ComponentFailed
from pipeline.errors import Diverged, RunFailed, Stopped
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan, PlanError, StagePlan
from pipeline.recipe.schema import Recipe
from pipeline.stages import progress
from pipeline.stages.context import Output, RunContext
from pipeline.stages.prompt_room import PromptRoom
from pipeline.stages.run_folder import RESERVE_FILE, RunFolder, RunFolderError

STAGES = {
    "cold": {"kind": "sft", "rows": "train.worked", "max_tokens": 64},
    "refit": {"kind": "sft", "init": "cold", "rows": "train.worked", "max_tokens": 64},
}


class Cluster:
    """The double of a cluster, which materializes an empty model."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, _: Callable[..., Any], source: Any, out: Path, *, seed: int) -> None:
        out.mkdir()
        (out / "config.json").write_text(f"{seed}")


class Console:
    """Takes everything and keeps the states of stages."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def stage(self, name: str, state: str, **_: Any) -> None:
        self.states.append((name, state))

    def start(self, *_: Any) -> None: ...
    def metrics(self, *_: Any) -> None: ...
    def log(self, *_: Any) -> None: ...
    def finish(self, *_: Any) -> None: ...


def planned(**changes: Any) -> Plan:
    content = {
        "name": "flow",
        "model": {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 64}},
        "prompts": {"train": {"task": "swaps", "size": 5, "difficulty": [1, 2]}},
        "stages": STAGES,
    }
    return make_plan(Recipe.model_validate(content | changes))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that ran."""
    names: list[str] = []

    def stage(plan: StagePlan, context: RunContext) -> Output:
        init = context.artifacts[plan.inputs[0].name]
        assert init.manifest.kind == "checkpoint"
        assert (context.work / "fingerprint").read_text() == plan.fingerprint
        names.append(plan.name)
        (context.out / "model").mkdir()
        (context.out / "model" / "weights").write_text(plan.name)
        return Output(kind="checkpoint", info={"steps": 1})

    monkeypatch.setattr(flow, "STAGES", {"sft": stage})
    monkeypatch.setattr(flow, "Cluster", Cluster)
    monkeypatch.setattr(flow, "measured_room", lambda *_, **__: PromptRoom())
    return names


def run(folder: Path, plan: Plan, console: Any = None, **options: Any) -> Any:
    given = {"from_stage": None, "to_stage": None} | options
    return flow.run(plan, run_dir=folder, console=console or Console(), **given)


def test_stages_run_in_order_and_only_once(ran: list[str], tmp_path: Path) -> None:
    first = run(tmp_path, planned(), to_stage="cold")
    assert [state.status for state in first.stages] == ["done", "waiting"]
    console = Console()
    second = run(tmp_path, planned(), console)
    assert ran == ["cold", "refit"]
    assert console.states == [("cold", "finished before"), ("refit", "running"), ("refit", "done")]
    assert [state.status for state in second.stages] == ["done", "done"]
    manifest = open_artifact(tmp_path / "stages" / "refit").manifest
    assert manifest.inputs.keys() == {"init:cold", "rows:train"}


def test_a_stages_seconds_are_told_by_phase(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = flow.STAGES["sft"]

    def measured(plan: StagePlan, context: RunContext) -> Output:
        row = {"step": 1, "seconds/training": 0.25, "seconds/checkpoint": 0.0}
        (context.work / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return plain(plan, context)

    monkeypatch.setattr(flow, "STAGES", {"sft": measured})
    for _ in range(2):  # a run that finds its stages finished tells the same
        (first, *_) = run(tmp_path / "run", planned()).document()["stages"]
        assert first["phase_seconds"]["training"] == 0.25
        assert set(first["phase_seconds"]) == {"training", "idle"}
        (saved, *_) = json.loads((tmp_path / "run" / "state.json").read_text())
        assert saved["phase_seconds"] == first["phase_seconds"]


def test_a_run_goes_on_where_it_was_moved_to(ran: list[str], tmp_path: Path) -> None:
    run(tmp_path / "here", planned(), to_stage="cold")
    (tmp_path / "here").rename(tmp_path / "there")
    document = run(tmp_path / "there", planned()).document()
    assert ran == ["cold", "refit"]
    assert [Path(row["artifact"]) for row in document["stages"]] == [
        tmp_path / "there" / "stages" / name for name in ("cold", "refit")
    ]
    saved = json.loads((tmp_path / "there" / "state.json").read_text())
    assert [row["artifact"] for row in saved] == ["stages/cold", "stages/refit"]


def test_another_recipe_sets_aside_what_it_changes(ran: list[str], tmp_path: Path) -> None:
    run(tmp_path, planned())
    run(tmp_path, planned(stages=STAGES | {"refit": STAGES["refit"] | {"lr": 0.5}}))
    assert ran == ["cold", "refit", "refit"]
    assert (tmp_path / "stages" / "refit.old-1" / "model" / "weights").is_file()


def test_from_a_stage_on_again(ran: list[str], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cold must be finished"):
        run(tmp_path, planned(), from_stage="refit")
    run(tmp_path, planned())
    run(tmp_path, planned(), from_stage="refit")
    assert ran == ["cold", "refit", "refit"]
    with pytest.raises(PlanError, match="did you mean cold"):
        run(tmp_path, planned(), to_stage="colt")


def test_a_failure_names_its_stage(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: StagePlan, context: RunContext) -> Output:
        raise OSError("disk full")

    monkeypatch.setattr(flow, "STAGES", {"sft": broken})
    console = Console()
    with pytest.raises(flow.StageFailed, match=r"stage cold \(sft\) failed: OSError: disk full"):
        run(tmp_path, planned(), console)
    assert console.states == [("cold", "running"), ("cold", "failed")]
    assert '"failed"' in (tmp_path / "state.json").read_text()


def test_the_first_signal_ends_before_the_next_stage(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = flow.STAGES["sft"]

    def interrupted(plan: StagePlan, context: RunContext) -> Output:
        signal.raise_signal(signal.SIGINT)
        return stage(plan, context)

    monkeypatch.setattr(flow, "STAGES", {"sft": interrupted})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    try:
        with pytest.raises(Stopped, match="stopped before refit"):
            run(tmp_path, planned())
    finally:
        signal.signal(signal.SIGINT, before)
    assert ran == ["cold"]


def test_one_run_in_a_folder_at_a_time(ran: list[str], tmp_path: Path) -> None:
    with RunFolder(tmp_path).lock(), pytest.raises(RunFolderError, match="another stepwell"):
        run(tmp_path, planned())


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_before_the_first_stage(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(flow, "measured_room", full)
    with pytest.raises(RunFailed, match=f"{tmp_path}: {os.strerror(fault)}; what is finished"):
        run(tmp_path, planned())
    assert os.strerror(fault) in (tmp_path / "state.json").read_text()
    assert os.strerror(fault) in (tmp_path / "logs" / "run.log").read_text()


def test_a_full_disk_in_a_stage_is_written_down(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was held back for it: nothing can be written while that is there."""
    real = progress.write_atomic

    def full(path: Path, text: str) -> None:
        if (tmp_path / RESERVE_FILE).exists() and "running" in text + path.read_text():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, text)

    def filling(plan: StagePlan, context: RunContext) -> Output:
        monkeypatch.setattr(progress, "write_atomic", full)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights")

    monkeypatch.setattr(flow, "STAGES", {"sft": filling})
    with pytest.raises(flow.StageFailed, match="make room on its disk and run the same command"):
        run(tmp_path, planned())
    cold, _ = json.loads((tmp_path / "state.json").read_text())
    assert cold["status"] == "failed"
    assert os.strerror(errno.ENOSPC) in cold["error"]
    assert not (tmp_path / RESERVE_FILE).exists()


def test_a_damaged_artifact_is_made_again_alone(ran: list[str], tmp_path: Path) -> None:
    run(tmp_path, planned())
    (tmp_path / "stages" / "cold" / "model" / "weights").write_text("dloc")
    run(tmp_path, planned())
    assert ran == ["cold", "refit", "cold"]
    assert (tmp_path / "stages" / "cold" / "model" / "weights").read_text() == "cold"


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_process_that_dies_is_started_again(
    deaths: int, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, left = flow.STAGES["sft"], [deaths]

    def dying(plan: StagePlan, context: RunContext) -> Output:
        if plan.name == "refit" and left[0]:
            left[0] -= 1
            raise ComponentDied("engine-0 died: x\nlast lines")
        return stage(plan, context)

    monkeypatch.setattr(flow, "STAGES", {"sft": dying})
    if deaths == 1:
        run(tmp_path, planned())
        log = (tmp_path / "logs" / "run.log").read_text()
        assert "warning: engine-0 died: x; starting again (1 of 2 times)" in log
        assert ran == ["cold", "refit"]
    else:
        with pytest.raises(flow.StageFailed, match="engine-0 died"):
            run(tmp_path, planned())
        assert left == [0]


def test_nothing_is_started_again_in_a_process_whose_ray_is_dead(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up, "_left_behind", threading.Event())

    def dying(plan: StagePlan, context: RunContext) -> Output:
        ran.append(plan.name)
        clean_up.leave_behind()  # what the cluster's end does where a process of Ray's own is gone
        raise ComponentDied("engine-0 died: x")

    monkeypatch.setattr(flow, "STAGES", {"sft": dying})
    with pytest.raises(flow.StageFailed, match="engine-0 died"):
        run(tmp_path, planned())
    assert ran == ["cold"]


def test_what_a_stage_raises_itself_is_no_death(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: StagePlan, context: RunContext) -> Output:
        ran.append(plan.name)
        raise ComponentFailed("a reward raises")

    monkeypatch.setattr(flow, "STAGES", {"sft": broken})
    with pytest.raises(flow.StageFailed, match="a reward raises"):
        run(tmp_path, planned())
    assert ran == ["cold"]


def test_a_training_that_diverged_begins_again(
    ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, left = flow.STAGES["sft"], [2]

    def diverging(plan: StagePlan, context: RunContext) -> Output:
        if left[0]:
            left[0] -= 1
            (context.out / "half").touch()
            raise Diverged("step 3: loss nan; back to the last checkpoint")
        return stage(plan, context)

    monkeypatch.setattr(flow, "STAGES", {"sft": diverging})
    run(tmp_path, planned())
    assert ran == ["cold", "refit"]
    assert not (tmp_path / "stages" / "cold" / "half").exists()
    log = (tmp_path / "logs" / "run.log").read_text()
    assert log.count("warning: cold: step 3: loss nan; back to the last checkpoint") == 2
