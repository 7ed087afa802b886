"""Every method at the same costs, by real rollouts on the prompts of one entry.

fixed depths, all prompts --> FLOPs of the compared mean depths, of either half
                                     |
one half:   Method.setting at some places of the knob, few prompts --> places that cost these
the other:  Method.setting at these places, all its prompts        --> what is reported

and the other way round, so that all prompts are reported at settings that others placed. Both
halves run in one go, each at its own setting.
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
from pipeline.depth.compare.halves import Rows, by_name, halves_of, in_order
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
from pipeline.measure.placement import placed, search, together
from pipeline.recipe.depth_parts import PLACED_PROMPTS, PLACEMENTS, compared_depths
from pipeline.records import group_names
from pipeline.recurrent.request import DepthRequest

Places = Sequence[float]
"""Of a knob, one for each of `compared_depths`."""


class Measurements:
    """What methods do on the prompts of one entry; `rows` is for the report."""

    def __init__(self, bench: Bench, contenders: Contenders, *, entry: str) -> None:
        self.prompts = bench.prompts(entry, bench.spec.pareto.size)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self._bench = bench
        self._spec = bench.spec
        self._contenders = contenders
        self._entry = entry
        self._halves = halves_of(len(self.prompts))
        self._all = range(len(self.prompts))
        self._lent: dict[tuple[float, Rows], list[Group]] = {}  # of the first policy, by ln(lambda)
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
        """Where the knob costs what is compared, by the first prompts of either half.

        `seed`: of the policy's, for a method that runs on it.
        """
        if method.follows:
            return self.places(POLICY)  # read from the journals
        self._log(f"the costs of {method.name}")
        knob = method.knob(self._spec)
        ends = {"dear": knob.dear, "cheap": knob.cheap}
        parts = [half[:PLACED_PROMPTS] for half in self._halves]
        targets = [self._costs(rows) for rows in parts]

        def measure(places: Sequence[float | None]) -> list[float]:
            """FLOPs of either part, both at once: a batch more or less takes as long."""
            asked = [rows for rows, p in zip(parts, places, strict=True) if p is not None]
            settings = [
                method.setting(self._trial(rows), place)
                for rows, place in zip(parts, places, strict=True)
                if place is not None
            ]
            flops = iter(self._run(method, asked, settings, seed=seed).answers.flops)
            return [
                float(np.mean([next(flops) for _ in rows])) if place is not None else 0.0
                for rows, place in zip(parts, places, strict=True)
            ]

        searches = [search(some, {}, measurements=PLACEMENTS, **ends) for some in targets]
        even, odd = (
            placed(some, costs, **ends)
            for some, costs in zip(targets, together(searches, measure), strict=True)
        )
        return even, odd

    def family(
        self, method: Method, places: tuple[Places, Places], *, seed: int = 0
    ) -> list[Measurement]:
        """A method at every compared cost; the places of one half are for the other's prompts."""
        name = of_seed(seed) if method is POLICY else method.name
        self._log(name)
        depths = compared_depths(self._spec.max_depth)
        measurements = []
        for depth, by_even, by_odd in zip(depths, *places, strict=True):
            own = (by_odd, by_even)
            settings = [
                method.setting(self._trial(rows), place)
                for rows, place in zip(self._halves, own, strict=True)
            ]
            measurement = in_order(self._run(method, self._halves, settings, seed=seed))
            if method is POLICY and seed == 0:
                for half, place in zip(self._halves, own, strict=True):
                    self._lent[place, half] = [measurement.groups[row] for row in half]
            even, odd = (setting.key for setting in settings)
            key = {name: (even[name] + odd[name]) / 2 for name in even}
            self._note(name, {"placed_depth": depth, **key}, measurement)
            measurements.append(measurement)
        return measurements

    def at_request(
        self, name: str, model: Path, request: DepthRequest, *, area: str
    ) -> Measurement:
        """All prompts by one request, noted among the rows of `name`."""
        measurement = self._rollouts(model, request, self._all, area=area)
        self._note(name, {"log_price": request.log_price}, measurement)
        return measurement

    def _costs(self, rows: Rows) -> list[float]:
        """FLOPs of the compared mean depths, of these prompts."""
        curve = np.array([[float(m.answers.flops[list(rows)].mean()), 0.0] for m in self.fixed])
        return [stated_flops(curve, depth) for depth in compared_depths(self._spec.max_depth)]

    def _run(
        self, method: Method, parts: Sequence[Rows], settings: Sequence[Setting], *, seed: int
    ) -> Measurement:
        """Each part of the prompts at its own setting, in one go, one part after the other."""
        on_policy = method.model == "policy"
        model = (
            self._contenders.policies[seed] if on_policy else self._contenders.model(method.model)
        )
        samples = self._spec.pareto.samples_per_prompt
        requests = {
            name: requests
            for rows, setting in zip(parts, settings, strict=True)
            for name, requests in by_name(setting.requests, self._names_of(rows), samples).items()
        }
        rows = [row for part in parts for row in part]
        measurement = self._rollouts(model, requests, rows, area=_area(method, seed))
        more = [setting.more_flops for setting in settings if setting.more_flops is not None]
        return with_flops(measurement, np.concatenate(more)) if more else measurement

    def _trial(self, rows: Rows) -> Trial:
        return Trial(
            spec=self._spec,
            seed=self._bench.plan.seed,
            names=self._names_of(rows),
            policy=lambda log_price: self._policy_at(log_price, rows),
            critic=lambda log_price: self._critic.choice(log_price, rows),
            request_depth=lambda shift: self._regression.choice(shift, rows),
            static=self._static_at,
        )

    def _static_at(self, log_price: float) -> Sequence[int]:
        """Depths by position at ln(nats an iteration)."""
        return schedule(losses_by_place(self._contenders.heads.losses), log_price=log_price)

    def _names_of(self, rows: Rows) -> list[str]:
        return group_names([self.prompts[row] for row in rows])

    def _policy_at(self, log_price: float, rows: Rows) -> Sequence[Group]:
        """What the first policy does at ln(lambda): as it was measured, where it stands there."""
        if (log_price, rows) in self._lent:
            return self._lent[log_price, rows]
        request = policy_request(self._spec, log_price=log_price)
        policy = self._contenders.policies[0]
        return self._rollouts(policy, request, rows, area=_area(POLICY, 0)).groups

    def _rollouts(
        self, model: Path, requests: Requests, rows: Sequence[int], *, area: str
    ) -> Measurement:
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
