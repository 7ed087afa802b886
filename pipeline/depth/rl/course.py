"""Steps of a halting head, which sample and then learn: journaled before anything changes."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import file_sha256, set_aside, write_atomic
from pipeline.depth import depth_calls
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.members import step_prices, step_requests
from pipeline.depth.rl.references import References
from pipeline.depth.trainer_jobs import RlUpdate
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.schedule import derived_seed, prompts_of_step
from pipeline.generate.steps import step_metrics
from pipeline.generate.unscored import check_scored
from pipeline.records import Prompt, group_names
from pipeline.stages.journal_check import BEFORE, set_damaged_aside
from pipeline.stages.support import check_stop, prompts_of
from pipeline.train.job import METRICS_FILE

STATES_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Course:
    """One series of steps of a head: what its trainer is told, and where it is kept."""

    work: Path  # states and rows
    journal: Journal
    seed: int
    reference: Path  # what the trainer measures the head's KL from
    settings: Callable[[int, Mapping[str, float]], RlUpdate]  # of a step and its prices
    number: Callable[[int], int]  # what people call a step, from 1
    numbers: int  # how many of those there are
    shown: Sequence[Path] = ()  # folders whose rows are the stage's metrics; none: not shown


class Steps:
    """The steps of a course, gone on with where they ended."""

    def __init__(self, bench: Bench, course: Course) -> None:
        self._bench = bench
        self._course = course
        self._prompts = prompts_of(bench.ctx, bench.spec.prompts)
        self._references: References | None = None

    def run(self, model: Path, *, until: int) -> Mapping[str, Any]:
        """Run what is left of the first `until` steps; the last one's metrics.

        Engines hold `model`, and the weights of the newest state. The trainer is given it too.
        """
        first = self._done()
        then = BEFORE.format(place=self.state(first).name)
        set_damaged_aside(self._course.journal, before=first, then=then)
        if self._bench.spec.rl.outcome == "expected":
            self._references = References(model)
        began = time.monotonic()
        for step in range(first, until):
            check_stop(self._bench.ctx, self._bench.plan)
            row = self._step(step, model)
            left = (time.monotonic() - began) / (step + 1 - first) * (until - step - 1)
            self._shown(row | {"seconds_left": left})
        self._bench.forget()
        return json.loads(_row(self._course.work, until - 1).read_text())

    def state(self, step: int) -> Path:
        """Weights and optimizer before a step."""
        return self._course.work / f"state-{step:06d}.safetensors"

    def _step(self, step: int, model: Path) -> dict[str, Any]:
        bench, course, rl = self._bench, self._course, self._bench.spec.rl
        batch = prompts_of_step(
            self._prompts, seed=course.seed, step=step, count=rl.prompts_per_step
        )
        prices = step_prices(bench.spec, group_names(batch), seed=course.seed, step=step)
        rollouts = course.journal.read(step)
        if rollouts is None:
            rollouts = self._sampled(step, model, batch, prices)
            course.journal.write(step, rollouts)
        job = head_job(bench.plan, bench.ctx, model=model, out=course.work, seed=course.seed)
        update = bench.call(
            depth_calls.update_head,
            job,
            course.journal.path(step),
            state=self.state(step) if step else None,
            new_state=self.state(step + 1),
            reference=course.reference,
            spec=self._told(course.settings(step, prices), batch),
        )
        number = course.number(step)
        for sentence in update.pop("alarms"):
            bench.ctx.console.log(f"{bench.plan.name}: step {number}: {sentence}")
        row = {
            **rollouts.metrics,
            **update,
            "step": number,
            "steps": course.numbers,
            "loss": update["policy"],
        }
        write_atomic(self._digest(step + 1), file_sha256(self.state(step + 1)))
        keep_row(course.work, step, row)
        for file in (self.state(step + 1 - STATES_KEPT), self._digest(step + 1 - STATES_KEPT)):
            file.unlink(missing_ok=True)
        return row

    def _told(self, update: RlUpdate, batch: list[Prompt]) -> RlUpdate:
        """The update, with what the step's prompts want written where outcomes are expected."""
        if self._references is None:
            return update
        return dataclasses.replace(update, references=self._references.of_step(batch))

    def _sampled(
        self, step: int, model: Path, batch: list[Prompt], prices: dict[str, float]
    ) -> StepRollouts:
        bench, spec = self._bench, self._bench.spec
        began = time.monotonic()
        serving = bench.serving(model)
        if step:
            with bench.clock.during("sync"):
                weights = bench.ctx.cluster.call(depth_calls.packed, self.state(step))
                serving.load_weights(weights)
        with bench.clock.during("generation"):
            groups = serving.sample(
                batch,
                source=spec.prompts,
                sampling=bench.sampling(spec.rl.samples_per_prompt),
                seed=derived_seed(self._course.seed, "step", step),
                depths=step_requests(spec, prices),
            )
        check_scored(groups, step=step)
        return StepRollouts(
            groups=groups, metrics=step_metrics(groups, seconds=time.monotonic() - began)
        )

    def _digest(self, step: int) -> Path:
        return self.state(step).with_suffix(".sha256")

    def _done(self) -> int:
        """Steps that are finished: their row and their state are there. A damaged state is set
        aside: its step is learned again from the one before."""
        work = self._course.work
        work.mkdir(parents=True, exist_ok=True)
        states = [int(p.stem[6:]) for p in work.glob("state-*.safetensors")]
        for step in sorted((s for s in states if _row(work, s - 1).is_file()), reverse=True):
            digest = self._digest(step)
            if digest.is_file() and digest.read_text() == file_sha256(self.state(step)):
                return step
            aside = set_aside(self.state(step))
            self._bench.ctx.console.log(
                f"warning: {self.state(step)} differs from its checksum; set aside as {aside}, and "
                "its step is learned again"
            )
        return 0

    def _shown(self, row: Mapping[str, Any]) -> None:
        self._bench.ctx.console.metrics(self._bench.plan.name, row)
        if self._course.shown:
            show_rows(self._bench, self._course.shown)


def keep_row(work: Path, step: int, row: Mapping[str, Any]) -> None:
    """Write the metrics of a step (from 0) of a series that is kept in `work`."""
    write_atomic(_row(work, step), json.dumps(row))


def show_rows(bench: Bench, folders: Sequence[Path]) -> None:
    """Make the rows in these folders, by their steps' numbers, the stage's metrics."""
    files = [file for folder in folders for file in folder.glob("row-*.json")]
    rows = sorted((json.loads(f.read_text()) for f in files), key=lambda r: r["step"])
    lines = [json.dumps(row) + "\n" for row in rows]
    write_atomic(bench.ctx.work / METRICS_FILE, "".join(lines))


def _row(work: Path, step: int) -> Path:
    return work / f"row-{step:06d}.json"
