"""Part 5: policy-gradient steps on the halting head, from rollouts at the depths it chose.

What a step used is journaled before the head changes; a resumed run reads it.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.generate.groups import unscored_share
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.rollouts import RolloutError
from pipeline.generate.schedule import derived_seed, prompts_of_step
from pipeline.generate.steps import step_metrics
from pipeline.recipe import DepthStage
from pipeline.records import Prompt
from pipeline.stages.depth.jobs import head_job
from pipeline.stages.depth.measuring import Bench
from pipeline.stages.depth.members import step_prices, step_requests
from pipeline.stages.sampling import UNSCORED_LIMIT
from pipeline.stages.support import MODEL_FOLDER, check_stop, prompts_of
from pipeline.train.depth.job import RlUpdate
from pipeline.train.job import METRICS_FILE

STATES_KEPT = 2


class Steps:
    """The steps of one seed."""

    def __init__(self, bench: Bench, *, warm: Path, ref_tokens: float, number: int) -> None:
        self._bench = bench
        self._warm = warm
        self._ref_tokens = ref_tokens
        self._seed = derived_seed(bench.plan.seed, "rl", number) & 0x7FFFFFFF
        self._work = bench.ctx.work / f"rl-{number}"
        journal = bench.ctx.run_dir / "journal" / bench.plan.name
        self._journal = Journal(journal / f"seed-{number}" if number else journal)
        self._show = number == 0
        self._prompts = prompts_of(bench.ctx, bench.spec.prompts)

    def run(self, out: Path) -> Mapping[str, Any]:
        """Run what is left of the steps and export the head; the last step's metrics."""
        spec, first = self._bench.spec.rl, self._done()
        began = time.monotonic()
        for step in range(first, spec.steps):
            check_stop(self._bench.ctx, self._bench.plan)
            row = self._step(step)
            left = (time.monotonic() - began) / (step + 1 - first) * (spec.steps - step - 1)
            self._shown(row | {"seconds_left": left})
        job = head_job(self._bench.plan, self._bench.ctx, model=self._warm, out=out / MODEL_FOLDER)
        self._bench.ctx.cluster.call(
            "pipeline.train.depth.rl:export_head", job, self._state(spec.steps)
        )
        self._bench.forget()
        return self._rows()[-1]

    def _step(self, step: int) -> dict[str, Any]:
        bench, spec = self._bench, self._bench.spec
        batch = prompts_of_step(
            self._prompts, seed=self._seed, step=step, count=spec.rl.prompts_per_step
        )
        prices = step_prices(spec, [p.id for p in batch], seed=self._seed, step=step)
        rollouts = self._journal.read(step)
        if rollouts is None:
            rollouts = self._sampled(step, batch, prices)
            self._journal.write(step, rollouts)
        job = head_job(bench.plan, bench.ctx, model=self._warm, out=self._work, seed=self._seed)
        found = bench.ctx.cluster.call(
            "pipeline.train.depth.rl:update",
            job,
            self._journal.path(step),
            state=self._state(step) if step else None,
            new_state=self._state(step + 1),
            reference=self._warm,
            spec=update_of(spec, step=step, prices=prices, ref_tokens=self._ref_tokens),
        )
        for sentence in found.pop("alarms"):
            bench.ctx.console.log(f"{bench.plan.name}: step {step + 1}: {sentence}")
        row = {
            **rollouts.metrics,
            **found,
            "step": step + 1,
            "steps": spec.rl.steps,
            "loss": found["policy"],
        }
        write_atomic(self._work / f"row-{step:06d}.json", json.dumps(row))
        self._state(step + 1 - STATES_KEPT).unlink(missing_ok=True)
        return row

    def _sampled(self, step: int, batch: list[Prompt], prices: dict[str, float]) -> StepRollouts:
        bench, spec = self._bench, self._bench.spec
        began = time.monotonic()
        serving = bench.serving(self._warm)
        if step:
            serving.load_weights(
                bench.ctx.cluster.call("pipeline.train.depth.packing:packed", self._state(step))
            )
        groups = serving.sample(
            batch,
            source=spec.prompts,
            sampling=bench.sampling(spec.rl.samples_per_prompt),
            seed=derived_seed(self._seed, "step", step),
            depths=step_requests(spec, prices, seed=self._seed, step=step),
        )
        if (share := unscored_share(groups)) > UNSCORED_LIMIT:
            raise RolloutError(
                f"step {step}: {share:.1%} of the samples could not be scored (limit "
                f"{UNSCORED_LIMIT:.1%}); the rewards failed, not the model"
            )
        return StepRollouts(
            groups=groups, metrics=step_metrics(groups, seconds=time.monotonic() - began)
        )

    def _state(self, step: int) -> Path:
        """Head and optimizer before a step."""
        return self._work / f"state-{step:06d}.safetensors"

    def _done(self) -> int:
        """Steps that are finished: their state and their row are there."""
        self._work.mkdir(parents=True, exist_ok=True)
        states = [int(p.stem[6:]) for p in self._work.glob("state-*.safetensors")]
        return max(
            (s for s in states if (self._work / f"row-{s - 1:06d}.json").is_file()), default=0
        )

    def _rows(self) -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in sorted(self._work.glob("row-*.json"))]

    def _shown(self, row: Mapping[str, Any]) -> None:
        self._bench.ctx.console.metrics(self._bench.plan.name, row)
        if self._show:
            lines = [json.dumps(row) + "\n" for row in self._rows()]
            write_atomic(self._bench.ctx.work / METRICS_FILE, "".join(lines))


def update_of(
    spec: DepthStage, *, step: int, prices: Mapping[str, float], ref_tokens: float
) -> RlUpdate:
    """What the trainer is told of a step."""
    rl = spec.rl
    return RlUpdate(
        step=step,
        log_prices=prices,
        ref_tokens=ref_tokens,
        price_tokens=rl.price_tokens,
        lr=rl.lr,
        epochs=rl.epochs,
        minibatches=rl.minibatches,
        clip=rl.clip,
        entropy=rl.entropy,
        kl=rl.kl,
        max_grad_norm=rl.max_grad_norm,
    )
