"""Every method at the same costs, by real rollouts on the prompts of one entry.

fixed depths, all prompts --> FLOPs of the compared mean depths, of either half
                                     |
one half:   Method.setting at some places of the knob, few prompts --> places that cost these
the other:  Method.setting at these places, all its prompts        --> what is reported

and the other way round, so that all prompts are reported at settings that others placed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.depth.answers import Floats
from pipeline.depth.bench import Bench, Measurement
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.compare.critic_choice import by_accuracy, by_regression, with_flops
from pipeline.depth.compare.gains import stated_flops
from pipeline.depth.compare.halves import Rows, halves_of, merged
from pipeline.depth.compare.methods import (
    FIXED,
    POLICY,
    Ladder,
    Method,
    Requests,
    Setting,
    Trial,
    of_seed,
)
from pipeline.depth.labels.static_schedule import losses_by_place, schedule
from pipeline.depth.members import policy_request
from pipeline.generate.groups import Group
from pipeline.measure.placement import placed
from pipeline.recipe.depth_stage import PLACED_PROMPTS, PLACEMENTS, compared_depths
from pipeline.records import group_names

Places = Sequence[float]
"""Of a knob, one for each of `compared_depths`."""


class Measurements:
    """What methods do on the prompts of one entry; `rows` is for the report."""

    def __init__(self, bench: Bench, contenders: Contenders, *, entry: str) -> None:
        self.prompts = bench.prompts(entry, bench.spec.pareto.size)
        if len(self.prompts) < 2:
            raise ValueError(
                f"prompts.{entry} holds {len(self.prompts)} prompts: the comparison places "
                "settings on one half of them and reports the other; give at least 2"
            )
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._bench = bench
        self._spec = bench.spec
        self._contenders = contenders
        self._entry = entry
        self._halves = halves_of(len(self.prompts))
        self._all = range(len(self.prompts))
        self.fixed = self.ladder(FIXED)
        rollouts = [group.samples[0].rollout for group in self.fixed[0].groups]
        prompts = [list(rollout.prompt_tokens) for rollout in rollouts]
        self._critic = by_accuracy(bench, prompts, contenders.heads)
        self._regression = by_regression(bench, prompts, contenders.heads)

    def ladder(self, ladder: Ladder) -> list[Measurement]:
        """Fixed depths 1 to the deepest, on all prompts."""
        self._log(ladder.name)
        measurements = []
        for depth in range(1, self._spec.max_depth + 1):
            request = ladder.request(self._spec, depth)
            measurement = self._rollouts(
                self._contenders.policies[0], request, self._all, area=_area(POLICY, 0)
            )
            self._note(ladder.name, {"depth": depth}, measurement)
            measurements.append(measurement)
        return measurements

    def places(self, method: Method, *, seed: int = 0) -> tuple[Places, Places]:
        """Where the knob costs what is compared, by the prompts of either half.

        `seed`: of the policy's, for a method that runs on it.
        """
        if method.follows:
            return self.places(POLICY)  # read from the journals
        self._log(f"the costs of {method.name}")
        even, odd = (self._placed(method, half, seed) for half in self._halves)
        return even, odd

    def family(
        self, method: Method, places: tuple[Places, Places], *, seed: int = 0
    ) -> list[Measurement]:
        """A method at every compared cost; the places of one half are for the other's prompts."""
        name = of_seed(seed) if method is POLICY else method.name
        self._log(name)
        depths = compared_depths(self._spec.max_depth)
        measurements = []
        for depth, *pair in zip(depths, *places, strict=True):
            even, odd = (
                self._at(method, place, half, seed)
                for place, half in zip(reversed(pair), self._halves, strict=True)
            )
            measurement = merged((even[1], odd[1]))
            key = {name: (value + odd[0][name]) / 2 for name, value in even[0].items()}
            self._note(name, {"placed_depth": depth, **key}, measurement)
            measurements.append(measurement)
        return measurements

    def at_request(self, name: str, model: Path, requests: Requests, *, area: str) -> Measurement:
        """All prompts by one request, noted among the rows of `name`."""
        measurement = self._rollouts(model, requests, self._all, area=area)
        key = {"log_price": requests.log_price} if not isinstance(requests, Mapping) else {}
        self._note(name, key, measurement)
        return measurement

    def _placed(self, method: Method, half: Rows, seed: int) -> Places:
        """By the first prompts of a half."""
        rows = half[:PLACED_PROMPTS]
        curve = np.array(
            [[float(m.answers.flops[list(rows)].mean()), 0.0] for m in self.fixed]
        )  # no accuracy: only costs are looked at
        knob = method.knob(self._spec)
        return placed(
            [stated_flops(curve, depth) for depth in compared_depths(self._spec.max_depth)],
            lambda place: float(self._at(method, place, rows, seed)[1].answers.flops.mean()),
            dear=knob.dear,
            cheap=knob.cheap,
            measurements=PLACEMENTS,
        )

    def _at(
        self, method: Method, place: float, rows: Rows, seed: int
    ) -> tuple[Mapping[str, float], Measurement]:
        """A method at a place of its knob, and what tells the setting from others."""
        setting = method.setting(self._trial(rows), place)
        on_policy = method.model == "policy"
        model = (
            self._contenders.policies[seed] if on_policy else self._contenders.model(method.model)
        )
        return setting.key, self._measured(model, setting, rows, area=_area(method, seed))

    def _measured(self, model: Path, setting: Setting, rows: Rows, *, area: str) -> Measurement:
        measurement = self._rollouts(model, setting.requests, rows, area=area)
        if setting.more_flops is not None:
            return with_flops(measurement, setting.more_flops)
        return measurement

    def _trial(self, rows: Rows) -> Trial:
        return Trial(
            spec=self._spec,
            seed=self._bench.plan.seed,
            names=group_names([self.prompts[row] for row in rows]),
            policy=lambda log_price: self._policy_at(log_price, rows),
            critic=lambda log_price: self._critic.choice(log_price, rows),
            request_depth=lambda shift: self._regression.choice(shift, rows),
            static=self._static_at,
        )

    def _static_at(self, log_price: float) -> Sequence[int]:
        """Depths by position at ln(nats an iteration)."""
        return schedule(losses_by_place(self._contenders.heads.losses), log_price=log_price)

    def _policy_at(self, log_price: float, rows: Rows) -> Sequence[Group]:
        """What the first policy does at ln(lambda)."""
        request = policy_request(self._spec, log_price=log_price)
        policy = self._contenders.policies[0]
        return self._rollouts(policy, request, rows, area=_area(POLICY, 0)).groups

    def _rollouts(self, model: Path, requests: Requests, rows: Rows, *, area: str) -> Measurement:
        return self._bench.measure(
            model,
            [self.prompts[row] for row in rows],
            requests,
            entry=self._entry,
            samples=self._spec.pareto.samples_per_prompt,
            area=f"pareto-{self._entry}-{area}",
        )

    def _note(self, name: str, key: Mapping[str, float], measurement: Measurement) -> None:
        self.rows.setdefault(name, []).append({**key, **measurement.summary()})

    def _log(self, name: str) -> None:
        self._bench.ctx.console.log(f"{self._bench.plan.name}: measuring {name} on {self._entry}")


def points_of(measurements: Sequence[Measurement]) -> Floats:
    """[_P, _K, 3] iterations, FLOPs and accuracy."""
    return np.stack([m.answers.points for m in measurements], axis=1)


def _area(method: Method, seed: int) -> str:
    """The journals of a method's model."""
    return f"rl-{seed}" if method.model == "policy" else method.model
