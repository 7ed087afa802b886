"""Part 8: the policy and every baseline on held-out prompts, by real rollouts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import write_atomic
from pipeline.depth.bench import Bench, Measurement
from pipeline.depth.compare import methods
from pipeline.depth.compare.critic_cost import choice_flops, with_flops
from pipeline.depth.compare.fronts import (
    Floats,
    fronts,
    headroom_summary,
    need,
    slider,
    unseen_budgets,
)
from pipeline.depth.compare.need import (
    TASKS_WITH_NEED,
    Spent,
    iterations_by_steps,
    spent_where_known,
)
from pipeline.depth.head_job import head_job
from pipeline.depth.labels.label_parts import CRITIC
from pipeline.depth.members import fixed_request
from pipeline.generate.chat import load_tokenizer
from pipeline.measure.headroom import Headroom, headroom
from pipeline.recipe.depth_stage import SLIDER_BUDGETS
from pipeline.records import group_names
from pipeline.recurrent.effort import request_for
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import shape_of

RESULTS_FILE = "pareto.json"


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """The models that methods run on."""

    policies: Sequence[Path]  # one a seed; the first is exported, or goes on to the joint phase
    warm: Path
    labels: Path  # the head from labels alone
    own_labels: Path  # the head from labels of every token's own loss
    critic: Path  # folder of the critic's file, of the gated model
    joint: Path | None = None  # policy 0 after the joint phase

    @property
    def exported(self) -> Path:
        """What is calibrated and handed on."""
        return self.joint or self.policies[0]


class Comparison:
    """All methods' measurements on one set of prompts: the held-out ones, or another entry's."""

    def __init__(self, bench: Bench, contenders: Contenders, *, entry: str | None = None) -> None:
        self._bench = bench
        self._spec = bench.spec
        self._on = contenders
        self._entry = entry or bench.spec.held_out
        self._prompts = bench.prompts(self._entry, bench.spec.pareto.size)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def make(self, out: Path, *, calibration: Mapping[str, Any]) -> Mapping[str, Any]:
        """Measure everything; what `stepwell run --json` prints under `depth`."""
        fixed = self._fixed()
        oracle = headroom(
            np.stack([m.answers.correct for m in fixed], axis=1),
            [float(m.answers.flops.mean()) for m in fixed],
            seed=self._bench.plan.seed,
        )
        hull = _points(fixed)
        policies = [self._policy(number) for number in range(len(self._on.policies))]
        found = {"policy": np.stack([_points(p) for p in policies])}
        for name in self._spec.pareto.baselines:
            if name == "fixed_whole":
                hull = np.concatenate((hull, self._baseline(name, policies[0])), axis=1)
            elif name == "oracle":
                self.rows[name] = oracle_rows(oracle)
            else:
                found[name] = self._baseline(name, policies[0])
        if self._on.joint is not None:
            requests = methods.policy_requests(self._spec)
            joint = [self._measured("joint", self._on.joint, r, area="joint") for r in requests]
            found["joint"] = _points(joint)
        spent = self._spent(policies[0])
        document = {
            **fronts(hull, found, policy="policy"),
            "oracle": headroom_summary(oracle),
            **need(spent, self._iterations_by_steps(fixed)),
            **self._budgets(calibration),
            "seeds": list(range(len(self._on.policies))),
            "problems": len(self._prompts),
            "methods": self.rows,
            "transfer": {
                entry: Comparison(self._bench, self._on, entry=entry).brief()
                for entry in self._spec.pareto.transfer
            },
        }
        write_atomic(out / RESULTS_FILE, json.dumps(document, indent=1))
        return document

    def brief(self) -> dict[str, Any]:
        """The policies against the fixed depths alone, on prompts of another kind."""
        self._bench.ctx.console.log(f"{self._bench.plan.name}: on {self._entry}")
        fixed = self._fixed()
        policies = [self._policy(number) for number in range(len(self._on.policies))]
        found = fronts(
            _points(fixed), {"policy": np.stack([_points(p) for p in policies])}, policy="policy"
        )
        kept = ("hull_area", "hull_area_ci", "iterations_saved", "flops_saved", "reference")
        return {
            **{key: found[key] for key in kept},
            **need(self._spent(policies[0]), self._iterations_by_steps(fixed)),
            "problems": len(self._prompts),
            "methods": self.rows,
        }

    def _fixed(self) -> list[Measurement]:
        return [
            self._measured("fixed", self._on.policies[0], request)
            for request in methods.fixed_requests(self._spec, whole=False)
        ]

    def _policy(self, number: int) -> list[Measurement]:
        name = "policy" if number == 0 else f"policy, seed {number}"
        model = self._on.policies[number]
        return [
            self._measured(name, model, request, area=f"rl-{number}")
            for request in methods.policy_requests(self._spec)
        ]

    def _baseline(self, name: str, policy: Sequence[Measurement]) -> Floats:
        """Points [_P, _K, 3] of a method."""
        model = self._on.policies[0]
        spec = self._spec
        heads = {
            "labels": self._on.labels,
            "own_labels": self._on.own_labels,
            "warm_start": self._on.warm,
        }
        if name == "permuted":
            return self._permuted(policy)
        if name == "critic":
            return self._critic()
        if name in heads:
            model = heads[name]
            requests = methods.policy_requests(spec)
        elif name == "policy_sampled":
            requests = methods.policy_requests(spec, sampled=True)
        elif name == "fixed_whole":
            requests = methods.fixed_requests(spec, whole=True)
        else:
            requests = methods.rule_requests(spec, name)
        area = name if name in heads else "rl-0"
        return _points([self._measured(name, model, request, area=area) for request in requests])

    def _permuted(self, policy: Sequence[Measurement]) -> Floats:
        found = []
        for measured in policy:
            depths = {
                g.samples[0].rollout.group: [s.rollout.depths or () for s in g.samples]
                for g in measured.groups
            }
            requests = methods.permuted_requests(self._spec, depths, seed=self._bench.plan.seed)
            found.append(self._measured("permuted", self._on.policies[0], requests))
        return _points(found)

    def _critic(self) -> Floats:
        """One depth a request, which the critic chose from the prompt at a cost of its own."""
        bench, spec = self._bench, self._spec
        samples = spec.pareto.samples_per_prompt
        job = head_job(bench.plan, bench.ctx, model=self._on.warm, out=bench.ctx.work)
        (first,) = [self._measured(None, self._on.policies[0], fixed_request(spec, spec.max_depth))]
        tokens = [list(g.samples[0].rollout.prompt_tokens) for g in first.groups]
        config = json.loads((self._on.policies[0] / "config.json").read_text())
        cost = partial(choice_flops, self._on.critic, shape_of(config))
        found = []
        for price in methods.log_prices(spec):
            depths = bench.ctx.cluster.call(
                f"{CRITIC}:choose", job, self._on.critic, tokens, log_price=price
            )
            chosen = {
                name: [fixed_request(spec, depth)] * samples
                for name, depth in zip(group_names(self._prompts), depths, strict=True)
            }
            more = [
                cost(prompt_tokens=len(prompt), prompt_depth=spec.prompt_depth, depth=depth)
                for prompt, depth in zip(tokens, depths, strict=True)
            ]
            found.append(
                self._measured(
                    "critic", self._on.policies[0], chosen, price=price, more_flops=np.array(more)
                )
            )
        return _points(found)

    def _measured(
        self,
        name: str | None,
        model: Path,
        requests: DepthRequest | Mapping[str, Sequence[DepthRequest]],
        *,
        area: str = "rl-0",
        price: float | None = None,
        more_flops: Floats | None = None,
    ) -> Measurement:
        """One setting, noted among the method's rows. `more_flops` [_P]: what the choice of depths
        cost besides the rollouts."""
        found = self._bench.measure(
            model,
            self._prompts,
            requests,
            entry=self._entry,
            samples=self._spec.pareto.samples_per_prompt,
            area=f"pareto-{self._entry}-{area}",
        )
        if more_flops is not None:
            found = with_flops(found, more_flops)
        if name is not None:
            if name not in self.rows:
                self._bench.ctx.console.log(f"{self._bench.plan.name}: measuring {name}")
            setting = _setting(requests) if price is None else {"log_price": price}
            self.rows.setdefault(name, []).append({**setting, **found.summary()})
        return found

    def _budgets(self, calibration: Mapping[str, Any]) -> dict[str, Any]:
        """The slider on held-out prompts, at budgets that nothing was measured for."""
        table = [row["budget"] for row in calibration["depth_calibration"]]
        if len(table) == 1:  # one depth at every price: nothing to slide
            return {"budget_error": None, "monotone": None, "budgets": []}
        budgets = unseen_budgets(table, count=SLIDER_BUDGETS)
        spent = [
            self._measured(
                "slider",
                self._on.exported,
                request_for(calibration, budget=budget),
                area="joint" if self._on.joint is not None else "rl-0",
            ).answers.mean_depth
            / self._spec.max_depth
            for budget in budgets
        ]
        return slider(budgets, spent, reach=max(table) - min(table))

    def _spent(self, policy: Sequence[Measurement]) -> list[Spent]:
        """Every position of the policy's completions whose need is known, all prices together."""
        task = {p.id: str(p.columns.get("task")) for p in self._prompts}
        if not TASKS_WITH_NEED.intersection(task.values()):
            return []
        tokenizer = load_tokenizer(self._on.policies[0])
        text: Callable[[int], str] = lambda token: tokenizer.decode([token])  # noqa: E731
        return [
            spent
            for measured in policy
            for group in measured.groups
            if task[group.prompt_id] in TASKS_WITH_NEED
            for sample in group.samples
            for spent in spent_where_known(
                task[group.prompt_id],
                [text(t) for t in sample.rollout.tokens],
                sample.rollout.depths or (),
            )
        ]

    def _iterations_by_steps(self, fixed: Sequence[Measurement]) -> dict[int, int]:
        """Iterations that the model needs for a number of steps, from the fixed depths."""
        known = [i for i, p in enumerate(self._prompts) if p.columns.get("task") in TASKS_WITH_NEED]
        steps = [int(str(self._prompts[i].columns["needed_depth"])) for i in known]
        correct = np.stack([m.answers.correct.mean(axis=1) for m in fixed], axis=1)
        return iterations_by_steps(steps, correct[known])


def oracle_rows(found: Headroom) -> list[dict[str, Any]]:
    """The oracle's points as rows of the report."""
    return [
        {"setting": kind, "accuracy": gain.accuracy, "flops_per_answer": gain.cost}
        for kind, gain in (
            ("cheapest right depth", found.oracle),
            ("largest gain", found.best_at_equal_cost),
        )
    ]


def _points(measured: Sequence[Measurement]) -> Floats:
    """[_P, _K, 3]."""
    return np.stack([m.answers.points for m in measured], axis=1)


def _setting(
    requests: DepthRequest | Mapping[str, Sequence[DepthRequest]],
) -> dict[str, float | str]:
    """What tells a method's settings apart."""
    if not isinstance(requests, DepthRequest):
        return {}
    if requests.rule == "policy":
        return {"log_price": requests.log_price}
    if requests.threshold is not None:
        return {"threshold": requests.threshold}
    return {"depth": requests.depth}
