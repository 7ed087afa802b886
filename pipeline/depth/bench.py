"""Real rollouts at chosen depths: journaled, with the energy they took."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from pipeline.artifacts import write_atomic
from pipeline.depth.answers import Answers, answers_of
from pipeline.generate.groups import Group
from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import Sampling
from pipeline.measure.energy import Energy, EnergyMeter
from pipeline.measure.ledger import PhaseClock
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Prompt, group_names
from pipeline.recurrent.request import DepthRequest
from pipeline.stages.context import RunContext, Serving, stage_journal
from pipeline.stages.sampling import depths_key, sample_in_chunks
from pipeline.stages.support import energy_device, prompts_of, serve

ENERGY_FILE = "energy.json"  # beside a setting's journal

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One setting on one set of prompts."""

    groups: Sequence[Group]
    answers: Answers
    energy: Energy

    @property
    def joules_per_answer(self) -> float:
        """Of the completions that the energy was measured over."""
        return self.energy.joules / self.answers.correct.size

    def summary(self) -> dict[str, float | str]:
        """The triple, and what it is a mean of."""
        return {
            "accuracy": self.answers.accuracy,
            "mean_depth": self.answers.mean_depth,
            "iterations": float(self.answers.iterations.mean()),
            "tokens": float(self.answers.tokens.mean()),
            "flops_per_answer": float(self.answers.flops.mean()),
            "joules_per_answer": self.joules_per_answer,
            "energy_source": self.energy.source,
        }


class Bench:
    """Measures settings of one stage. A model is served until another one is asked for."""

    def __init__(self, plan: StagePlan, ctx: RunContext) -> None:
        assert isinstance(plan.spec, DepthStage)
        self.plan = plan
        self.ctx = ctx
        self.spec = plan.spec
        self.clock = PhaseClock()  # of the part that is being made
        self._served: tuple[Path, Serving] | None = None

    def serving(self, model: Path) -> Serving:
        """The service on engines that hold `model`."""
        if self._served is None or self._served[0] != model:
            self._served = model, serve(self.ctx, model, rewards=[self.spec.reward])
        return self._served[1]

    def forget(self) -> None:
        """Load weights anew the next time: somebody has changed them."""
        self._served = None

    def call(self, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        """Have a trainer's process call a function; its time is the part's training."""
        with self.clock.during("training"):
            return self.ctx.cluster.call(function, *arguments, **keywords)

    def prompts(self, entry: str, size: int) -> list[Prompt]:
        """The first `size` prompts of an entry."""
        return prompts_of(self.ctx, entry)[:size]

    def measure(
        self,
        model: Path,
        prompts: Sequence[Prompt],
        requests: DepthRequest | Mapping[str, Sequence[DepthRequest]],
        *,
        entry: str,
        samples: int,
        area: str,
    ) -> Measurement:
        """Sample `samples` completions of the prompts of `entry` and score them.

        One request serves all completions, or `requests` has one for each. Seeds are those of the
        stage and the prompt, so that settings differ in their depths alone. What `area` (a name
        that tells models apart) has measured is read, not repeated.
        """
        depths = (
            {name: [requests] * samples for name in group_names(prompts)}
            if isinstance(requests, DepthRequest)
            else requests
        )
        journal = stage_journal(
            self.ctx.console, self.ctx.work / "rollouts" / area, stage=self.plan.name
        )
        place = journal.folder / f"depths-{depths_key(depths)}"
        resumed = place.exists()
        if not resumed:
            self.serving(model)  # an engine's start is no answer's energy
        with self.clock.during("generation"), EnergyMeter(energy_device(self.ctx)) as meter:
            groups = list(
                sample_in_chunks(
                    self.ctx,
                    self.plan,
                    lambda: self.serving(model),
                    prompts,
                    source=entry,
                    sampling=self.sampling(samples),
                    seed=derived_seed(self.plan.seed, "depth"),
                    journal=journal,
                    depths=depths,
                    shown=False,
                )
            )
            answers = answers_of(groups, reward=self.spec.reward)
            meter.add_flops(float(answers.flops.sum()))
        if not resumed:
            write_atomic(place / ENERGY_FILE, json.dumps(asdict(meter.energy)))
        return Measurement(
            groups=groups,
            answers=answers,
            energy=_energy(place / ENERGY_FILE, answers, energy_device(self.ctx)),
        )

    def sampling(self, samples: int) -> Sampling:
        """How every completion of the stage is drawn."""
        return Sampling(
            samples=samples,
            temperature=self.spec.temperature,
            top_p=1.0,
            max_tokens=self.spec.max_tokens,
        )


def _energy(path: Path, answers: Answers, device: str) -> Energy:
    """What was measured when all was sampled at once; an estimate after an interruption."""
    if path.is_file():
        return Energy(**json.loads(path.read_text()))
    with EnergyMeter(device, counter=None) as meter:
        meter.add_flops(float(answers.flops.sum()))
    return meter.energy
