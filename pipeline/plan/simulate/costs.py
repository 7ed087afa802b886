"""What an engine, a trainer and a verifier spend on a token, for a simulation. Pure.

An engine's step, in which every running sequence gets a token, reads the weights once (`step_s`)
and each sequence's keys and values, and multiplies (`token_s`). Prompts are read by whole blocks
that the samples of a prompt share; the rest of it every sample reads anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import WrongInput
from pipeline.plan.estimate import load_of, stage_shape
from pipeline.plan.lengths import task_lengths
from pipeline.plan.speeds import SPEEDS
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.schema import Recipe

BANDWIDTH = 3.35e12 * 0.6  # bytes/s that an H100's memory gives (its data sheet's, 60 %); assumed
STEP_OVERHEAD_S = 2e-3  # of an engine's step, scheduling; assumed
DISK_BYTES_PER_S = 2e9  # of a rank's checkpoint; assumed
RESTART_S = 300.0  # from a node's death to the next step; assumed
CHECK_S: Mapping[str, float] = {"builtin:math_answer": 1 / 1320, "builtin:code_tests": 1 / 250}
"""Of one completion on one core, by its reward (tests/bench/README.md)."""
OTHER_CHECK_S = 1e-4


class CostsError(WrongInput):
    """A file of costs that lacks a key, or has one that means nothing."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one engine, one trainer rank and one verifier, and where they come from."""

    step_s: float  # of an engine, whatever runs
    token_s: float  # that each running sequence adds to a step
    prefill_token_s: float  # of a prompt's token that is read
    train_token_s: float  # of one rank
    verify_s: float  # of a completion
    sync_s: float  # of weights to the engines
    checkpoint_s: float  # of all ranks' states, written by one
    restart_s: float
    source: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def costs_of(recipe: Recipe, name: str, *, device: str) -> Costs | None:
    """Assumed from the model's size and the rates of `pipeline.plan.speeds`; None where the size is
    unknown."""
    stage, shape, hardware = recipe.stages[name], stage_shape(recipe, name), recipe.hardware
    assert isinstance(stage, GrpoStage)
    if shape is None:
        return None
    speed, value = SPEEDS[device], 2 if recipe.model.dtype == "bfloat16" else 4
    lengths = task_lengths(recipe, name)
    load = load_of(recipe, name, stage.work({}, lengths=lengths))
    engine, rank = hardware.gpus_per_engine, 1
    if device == "cpu":
        engine, rank = hardware.engine_threads, hardware.rank_threads
    weights = shape.parameters * value
    context = (
        lengths.prompt_tokens(stage.max_tokens) + lengths.completion_tokens(stage.max_tokens) / 2
    )
    if device == "cuda":
        step = STEP_OVERHEAD_S + weights / (engine * BANDWIDTH)
        token = 2 * shape.run / (engine * speed.train_flops_per_s)
        token += context * (shape.kv_values or 0) * value / (engine * BANDWIDTH)
        source = "assumed: memory bandwidth and FLOP/s of an H100 (pipeline/plan/simulate/costs.py)"
    else:
        step = 0.0
        token = 2 * shape.run / (engine * speed.generate_flops_per_s)
        token = max(token, 1 / speed.max_tokens_per_s)
        source = "measured on two threads (pipeline/plan/speeds.py)"
    prefill = speed.train_flops_per_s if device == "cuda" else speed.generate_flops_per_s
    return Costs(
        step_s=step,
        token_s=token,
        prefill_token_s=2 * shape.run / (engine * prefill),
        train_token_s=load.train_flops / load.trained_tokens / (rank * speed.train_flops_per_s),
        verify_s=sum(_check_s(recipe, reward) for reward in stage.reward_names()),
        sync_s=weights / speed.sync_bytes_per_s + speed.sync_s,
        checkpoint_s=weights * 8 / DISK_BYTES_PER_S,
        restart_s=RESTART_S,
        source=source,
    )


def read_costs(path: Path) -> Costs:
    """Measured costs from a JSON object with the keys of `Costs`.

    Raises CostsError for a file that is no such object.
    """
    names = {field.name for field in fields(Costs)}
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CostsError(f"--costs {path}: {error}; give a JSON object") from None
    keys = set(content) if isinstance(content, dict) else set()
    if keys != names:
        odd = ", ".join(sorted(keys ^ names))
        raise CostsError(f"--costs {path}: its keys are {', '.join(sorted(names))}; amiss: {odd}")
    for key in sorted(names - {"source"}):
        if not isinstance(content[key], int | float) or content[key] < 0:
            raise CostsError(f"--costs {path}: {key} is no number of seconds: {content[key]!r}")
    return Costs(**content)


def _check_s(recipe: Recipe, reward: str) -> float:
    spec = recipe.rewards.get(reward)
    if spec is None:
        return OTHER_CHECK_S
    return max(CHECK_S.get(judge.use, OTHER_CHECK_S) for _, judge in spec.routes())
