"""Part 8: the policy and every rival on held-out prompts, by real rollouts.

recipe's baselines -> methods.py -> measurements.py: settings placed, rollouts, journaled
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
from pipeline.depth.compare.depth_report import (
    Calibration,
    ComparisonReport,
    HeadroomSummary,
    Need,
    PromptsReport,
    Slider,
)
from pipeline.depth.compare.fronts import ACCURACY, fronts
from pipeline.depth.compare.halves import labels_of
from pipeline.depth.compare.headline import headline
from pipeline.depth.compare.measurements import Measurements, Places, points_of
from pipeline.depth.compare.methods import (
    FIXED_WHOLE,
    JOINT,
    ORACLE,
    POLICY,
    RIVALS,
    Method,
)
from pipeline.depth.compare.need import (
    TASKS_WITH_NEED,
    Position,
    iterations_by_steps,
    need,
    positions_with_need,
)
from pipeline.depth.compare.saveable import max_saving
from pipeline.depth.compare.slider import slider, unseen_budgets
from pipeline.generate.chat import load_tokenizer
from pipeline.measure.headroom import Headroom, headroom
from pipeline.recipe.depth_parts import SLIDER_BUDGETS, STATED_DEPTHS, compared_depths
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Prompt
from pipeline.recurrent.effort import request_for
from pipeline.recurrent.shape import shape_of

RESULTS_FILE = "pareto.json"


def make(
    bench: Bench, out: Path, *, contenders: Contenders, calibration: Calibration
) -> Mapping[str, Any]:
    """Measure everything; the document of a `ComparisonReport`."""
    held_out = Comparison(bench, contenders, entry=bench.spec.held_out)
    report = held_out.whole(calibration)
    transfer = {
        entry: Comparison(bench, contenders, entry=entry).brief(held_out.policy_places)
        for entry in bench.spec.pareto.transfer
    }
    report = dataclasses.replace(report, transfer=transfer)
    for sentence in headline(report.held_out):
        bench.ctx.console.log(f"{bench.plan.name}: {sentence}")
    document = report.document()
    write_atomic(out / RESULTS_FILE, json.dumps(document, indent=1))
    return document


class Comparison:
    """The numbers on the prompts of one entry."""

    def __init__(self, bench: Bench, contenders: Contenders, *, entry: str) -> None:
        self._bench = bench
        self._spec = bench.spec
        self._contenders = contenders
        self._measurements = Measurements(bench, contenders, entry=entry)
        self.policy_places: list[tuple[Places, Places]] = []  # of every seed

    def whole(self, calibration: Calibration) -> ComparisonReport:
        """All that the recipe compares, and the slider; nothing of other prompts."""
        field, baselines = self._measurements, self._spec.pareto.baselines
        oracle = headroom(
            np.stack([m.answers.correct for m in field.fixed], axis=1),
            [float(m.answers.flops.mean()) for m in field.fixed],
            seed=self._bench.plan.seed,
        )
        seeds = range(len(self._contenders.policies))
        self.policy_places = [field.places(POLICY, seed=seed) for seed in seeds]
        policies = self._policies(self.policy_places)
        methods: list[Method] = [m for m in RIVALS if m.name in baselines]
        methods += [JOINT] if self._contenders.joint is not None else []
        points = {m.name: points_of(field.family(m, field.places(m))) for m in methods}
        if FIXED_WHOLE.name in baselines:
            field.ladder(FIXED_WHOLE)
        if ORACLE in baselines:
            field.rows[ORACLE] = oracle_rows(oracle)
        budgets = self._slider(calibration)
        return ComparisonReport(
            held_out=self._report(policies, points),
            oracle=headroom_summary(oracle),
            slider=budgets,
            seeds=list(seeds),
            transfer={},
        )

    def brief(self, places: Sequence[tuple[Places, Places]]) -> PromptsReport:
        """The policies, at their places of other prompts, against the fixed depths alone."""
        return self._report(self._policies(places), {})

    def _policies(self, places: Sequence[tuple[Places, Places]]) -> list[list[Measurement]]:
        return [
            self._measurements.family(POLICY, both, seed=seed) for seed, both in enumerate(places)
        ]

    def _report(
        self, policies: Sequence[Sequence[Measurement]], points: Mapping[str, Floats]
    ) -> PromptsReport:
        """The numbers on these prompts; `points` of further methods by name.

        A problem that could not be scored at some setting is left out of all of them.
        """
        fixed = self._measurements.fixed
        hull = points_of(fixed)
        methods = {POLICY.name: np.stack([points_of(policy) for policy in policies]), **points}
        scored = scored_everywhere([hull, *methods.values()])
        config = json.loads((self._contenders.policies[0] / "config.json").read_text())
        full = [sample.rollout for group in fixed[-1].groups for sample in group.samples]
        return PromptsReport(
            fronts=fronts(
                hull[scored],
                {name: some[..., scored, :, :] for name, some in methods.items()},
                policy=POLICY.name,
                half=np.array(labels_of(len(scored)))[scored].tolist(),
            ),
            need=self._need(policies),
            max_saving=max_saving(full, shape_of(config), self._spec),
            problems=int(scored.sum()),
            left_out=int((~scored).sum()),
            methods=self._measurements.rows,
        )

    def _slider(self, calibration: Calibration) -> Slider:
        """Budgets that nothing was measured for."""
        table = calibration.depth_calibration
        budgets = unseen_budgets([row["budget"] for row in table], count=SLIDER_BUDGETS)
        if len(table) == 1:  # one depth at every price: nothing to slide
            budgets = []
        area = JOINT.name if self._contenders.joint is not None else "rl-0"
        spent = []
        for budget in budgets:
            measurement = self._measurements.at_request(
                "slider",
                self._contenders.exported,
                request_for(asdict(calibration), budget=budget),
                area=area,
            )
            spent.append(measurement.answers.mean_depth / self._spec.max_depth)
        return slider(budgets, spent, table=table)

    def _need(self, policies: Sequence[Sequence[Measurement]]) -> Need:
        """How depth followed need, of all policies at the largest stated mean depth."""
        prompts = self._measurements.prompts
        known = [i for i, p in enumerate(prompts) if p.columns.get("task") in TASKS_WITH_NEED]
        if not known:
            return Need()
        steps = [int(str(prompts[i].columns["needed_depth"])) for i in known]
        fixed = self._measurements.fixed
        accuracy = np.stack([m.answers.points[:, ACCURACY] for m in fixed], axis=1)
        setting = largest_stated(self._spec)
        positions = self._positions([policy[setting] for policy in policies], prompts)
        return need(positions, iterations_by_steps(steps, accuracy[known]))

    def _positions(
        self, measurements: Sequence[Measurement], prompts: Sequence[Prompt]
    ) -> list[Position]:
        """Every position of completions whose need is known."""
        task = {p.id: str(p.columns.get("task")) for p in prompts}
        tokenizer = load_tokenizer(self._contenders.policies[0])
        return [
            position
            for measurement in measurements
            for group in measurement.groups
            if task[group.prompt_id] in TASKS_WITH_NEED
            for sample in group.samples
            for position in positions_with_need(
                task[group.prompt_id],
                [tokenizer.decode([token]) for token in sample.rollout.tokens],
                sample.rollout.depths or (),
            )
        ]


def largest_stated(spec: DepthStage) -> int:
    """The number of the setting that is placed at the largest stated mean depth."""
    return max(
        number
        for number, depth in enumerate(compared_depths(spec.max_depth))
        if depth in STATED_DEPTHS
    )


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
