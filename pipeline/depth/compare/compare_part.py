"""Part 8: the policy and every baseline on held-out prompts, by real rollouts.

recipe's baselines -> methods.py: settings of each -> bench: rollouts, journaled
                                                         |
depth_report.py  <-  fronts.py, need.py, slider.py  <-  points [_P problems, _K settings, 3]
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import write_atomic
from pipeline.depth.answers import Floats
from pipeline.depth.bench import Bench, Measurement
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.compare.critic_choice import critic_choice, with_flops
from pipeline.depth.compare.depth_report import (
    Calibration,
    ComparisonReport,
    HeadroomSummary,
    PromptsReport,
)
from pipeline.depth.compare.fronts import ACCURACY, fronts
from pipeline.depth.compare.methods import (
    FIXED,
    FIXED_WHOLE,
    JOINT,
    ORACLE,
    POLICY,
    RIVALS,
    Ladder,
    Method,
    Requests,
    Setting,
    Trial,
    of_seed,
)
from pipeline.depth.compare.need import (
    TASKS_WITH_NEED,
    Position,
    iterations_by_steps,
    need,
    positions_with_need,
)
from pipeline.depth.compare.slider import Slider, slider, unseen_budgets
from pipeline.depth.members import policy_request
from pipeline.generate.chat import load_tokenizer
from pipeline.generate.groups import Group
from pipeline.measure.headroom import Headroom, headroom
from pipeline.recipe.depth_stage import SLIDER_BUDGETS
from pipeline.recurrent.effort import request_for

RESULTS_FILE = "pareto.json"
FIRST = "rl-0"  # name of the first seed's journal


def make(
    bench: Bench, out: Path, *, contenders: Contenders, calibration: Calibration
) -> Mapping[str, Any]:
    """Measure everything; the document of a `ComparisonReport`."""
    transfer = {}
    held_out = Comparison(bench, contenders, entry=bench.spec.held_out)
    report = held_out.whole(calibration)
    for entry in bench.spec.pareto.transfer:
        bench.ctx.console.log(f"{bench.plan.name}: on {entry}")
        transfer[entry] = Comparison(bench, contenders, entry=entry).brief()
    document = dataclasses.replace(report, transfer=transfer).document()
    write_atomic(out / RESULTS_FILE, json.dumps(document, indent=1))
    return document


class Comparison:
    """Methods' measurements on the prompts of one entry."""

    def __init__(self, bench: Bench, contenders: Contenders, *, entry: str) -> None:
        self._bench = bench
        self._spec = bench.spec
        self._contenders = contenders
        self._entry = entry
        self._prompts = bench.prompts(entry, bench.spec.pareto.size)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def whole(self, calibration: Calibration) -> ComparisonReport:
        """All that the recipe compares, and the slider; nothing of other prompts."""
        fixed, policies = self.ladder(FIXED), self.policies()
        oracle = headroom(
            np.stack([m.answers.correct for m in fixed], axis=1),
            [float(m.answers.flops.mean()) for m in fixed],
            seed=self._bench.plan.seed,
        )
        trial = self.trial(fixed[0].groups)
        methods = [m for m in RIVALS if m.name in self._spec.pareto.baselines]
        methods += [JOINT] if self._contenders.joint is not None else []
        points = {method.name: _points(self.measured(method, trial)) for method in methods}
        if FIXED_WHOLE.name in self._spec.pareto.baselines:
            self.ladder(FIXED_WHOLE)
        if ORACLE in self._spec.pareto.baselines:
            self.rows[ORACLE] = oracle_rows(oracle)
        slid = self._slider(calibration)
        return ComparisonReport(
            held_out=self._report(fixed, policies, points),
            oracle=headroom_summary(oracle),
            slider=slid,
            seeds=list(range(len(policies))),
            transfer={},
        )

    def brief(self) -> PromptsReport:
        """The policies against the fixed depths alone."""
        return self._report(self.ladder(FIXED), self.policies(), {})

    def measured(self, method: Method, trial: Trial, *, seed: int = 0) -> list[Measurement]:
        """A method over its knob, evenly; `seed`: of the policy's, for a method that runs on it."""
        on_policy = method.model == "policy"
        model = (
            self._contenders.policies[seed] if on_policy else self._contenders.model(method.model)
        )
        name = of_seed(seed) if method is POLICY else method.name
        self._bench.ctx.console.log(f"{self._bench.plan.name}: measuring {name}")
        area = f"rl-{seed}" if on_policy else method.model
        knob = method.knob(self._spec)
        places = np.linspace(knob.dear, knob.cheap, self._spec.pareto.points).tolist()
        return [
            self._measurement(name, model, method.setting(trial, place), area=area)
            for place in places
        ]

    def policies(self) -> list[list[Measurement]]:
        """Every seed's policy at every price."""
        seeds = range(len(self._contenders.policies))
        return [self.measured(POLICY, self.trial([]), seed=seed) for seed in seeds]

    def trial(self, groups: Sequence[Group]) -> Trial:
        """What settings may depend on; `groups` of any setting tell the prompts."""
        rollouts = [group.samples[0].rollout for group in groups]
        return Trial(
            spec=self._spec,
            seed=self._bench.plan.seed,
            names=[rollout.group for rollout in rollouts],
            policy=self._policy_at,
            critic=critic_choice(
                self._bench,
                folder=self._contenders.heads.critic,
                warm=self._contenders.heads.warm,
                prompts=[list(rollout.prompt_tokens) for rollout in rollouts],
            ),
        )

    def _policy_at(self, log_price: float) -> Sequence[Group]:
        """What the first policy does at ln(lambda)."""
        request = policy_request(self._spec, log_price=log_price)
        return self._rollouts(self._contenders.policies[0], request, area="rl-0").groups

    def ladder(self, ladder: Ladder) -> list[Measurement]:
        """Every fixed depth."""
        self._bench.ctx.console.log(f"{self._bench.plan.name}: measuring {ladder.name}")
        return [
            self._measurement(
                ladder.name,
                self._contenders.policies[0],
                Setting(requests=ladder.request(self._spec, depth), key={"depth": depth}),
                area="rl-0",
            )
            for depth in range(1, self._spec.max_depth + 1)
        ]

    def _rollouts(self, model: Path, requests: Requests, *, area: str) -> Measurement:
        return self._bench.measure(
            model,
            self._prompts,
            requests,
            entry=self._entry,
            samples=self._spec.pareto.samples_per_prompt,
            area=f"pareto-{self._entry}-{area}",
        )

    def _measurement(self, name: str, model: Path, setting: Setting, *, area: str) -> Measurement:
        """One setting, noted among the method's rows."""
        measurement = self._rollouts(model, setting.requests, area=area)
        if setting.more_flops is not None:
            measurement = with_flops(measurement, setting.more_flops)
        self.rows.setdefault(name, []).append({**setting.key, **measurement.summary()})
        return measurement

    def _report(
        self,
        fixed: Sequence[Measurement],
        policies: Sequence[Sequence[Measurement]],
        points: Mapping[str, Floats],
    ) -> PromptsReport:
        """The numbers on these prompts; `points` of further methods by name.

        A problem that could not be scored at some setting is left out of all of them.
        """
        hull = _points(fixed)
        methods = {POLICY.name: np.stack([_points(policy) for policy in policies]), **points}
        scored = scored_everywhere([hull, *methods.values()])
        return PromptsReport(
            fronts=fronts(
                hull[scored],
                {name: some[..., scored, :, :] for name, some in methods.items()},
                policy=POLICY.name,
            ),
            need=need(self._positions(policies[0]), self._iterations_by_steps(fixed)),
            problems=int(scored.sum()),
            left_out=int((~scored).sum()),
            methods=self.rows,
        )

    def _slider(self, calibration: Calibration) -> Slider:
        """Budgets that nothing was measured for."""
        table = [row["budget"] for row in calibration.depth_calibration]
        if len(table) == 1:  # one depth at every price: nothing to slide
            return Slider()
        budgets, keys = unseen_budgets(table, count=SLIDER_BUDGETS), asdict(calibration)
        area = JOINT.name if self._contenders.joint is not None else FIRST
        spent = []
        for budget in budgets:
            request = request_for(keys, budget=budget)
            setting = Setting(requests=request, key={"log_price": request.log_price})
            measurement = self._measurement("slider", self._contenders.exported, setting, area=area)
            spent.append(measurement.answers.mean_depth / self._spec.max_depth)
        return slider(budgets, spent, reach=max(table) - min(table))

    def _positions(self, policy: Sequence[Measurement]) -> list[Position]:
        """Every position of the policy's completions whose need is known, all prices together."""
        task = {p.id: str(p.columns.get("task")) for p in self._prompts}
        if not TASKS_WITH_NEED.intersection(task.values()):
            return []
        tokenizer = load_tokenizer(self._contenders.policies[0])
        return [
            position
            for measurement in policy
            for group in measurement.groups
            if task[group.prompt_id] in TASKS_WITH_NEED
            for sample in group.samples
            for position in positions_with_need(
                task[group.prompt_id],
                [tokenizer.decode([token]) for token in sample.rollout.tokens],
                sample.rollout.depths or (),
            )
        ]

    def _iterations_by_steps(self, fixed: Sequence[Measurement]) -> dict[int, int]:
        """Iterations that the model needs for a number of steps, from the fixed depths."""
        known = [i for i, p in enumerate(self._prompts) if p.columns.get("task") in TASKS_WITH_NEED]
        steps = [int(str(self._prompts[i].columns["needed_depth"])) for i in known]
        accuracy = np.stack([m.answers.points[:, ACCURACY] for m in fixed], axis=1)
        return iterations_by_steps(steps, accuracy[known])


def oracle_rows(room: Headroom) -> list[dict[str, Any]]:
    """The oracle's points as rows of the report."""
    return [
        {"setting": kind, "accuracy": gain.accuracy, "flops_per_answer": gain.cost}
        for kind, gain in (
            ("cheapest right depth", room.oracle),
            ("largest gain", room.best_at_equal_cost),
        )
    ]


def headroom_summary(room: Headroom) -> HeadroomSummary:
    """The headroom in short."""
    best = room.best_at_equal_cost.points
    return HeadroomSummary(
        verdict=room.verdict,
        reason=room.reason,
        points=best.estimate,
        points_ci=[best.low, best.high],
        oracle_points=room.oracle.points.estimate,
    )


def scored_everywhere(points: Sequence[Floats]) -> NDArray[np.bool_]:
    """[_P] which problems every one of the points [..., _P, _K, 3] has an accuracy of."""
    gaps = [np.isnan(some).any(axis=(-2, -1)).reshape(-1, some.shape[-3]) for some in points]
    return np.logical_not(np.concatenate(gaps).any(axis=0))


def _points(measurements: Sequence[Measurement]) -> Floats:
    """[_P, _K, 3]."""
    return np.stack([m.answers.points for m in measurements], axis=1)
