"""Stepwell from Python: `import stepwell` gives what `__all__` lists here.

A function does what the command of its name does, and raises errors with the sentence that the
command prints. Nothing goes to standard output: where a person looks on, a run shows itself on
standard error, in a notebook below its cell. A notebook shows what is returned as tables.

>>> plan("quickstart").stages[0]
'cold_start'
>>> reward("builtin:math_answer", "<think>3 - 1</think>2", gold="2").verdict
'correct'

Libraries are loaded by the functions that need them, not by the import.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from pipeline import __version__
from pipeline.errors import RunFailed, StepwellError, Stopped, WrongInput
from pipeline.start import planned, run_planned
from pipeline.watch.run_record import Result, Run, read_run
from pipeline.watch.terminal import StandardError
from rewards.api import Reward, Sample
from rewards.registry import RewardNotFound

if TYPE_CHECKING:
    from pandas import DataFrame

    from pipeline.watch.plan_record import RunPlan

__all__ = [
    "Evaluation",
    "Result",
    "Reward",
    "RewardNotFound",
    "Run",
    "RunFailed",
    "Sample",
    "StepwellError",
    "Stopped",
    "WrongInput",
    "__version__",
    "evaluate",
    "metrics",
    "open_run",
    "plan",
    "reward",
    "rollouts",
    "run",
]

Recipe = str | os.PathLike[str] | Mapping[str, Any]
"""The name of a recipe that ships, a file's path, or as a mapping what such a file says."""

Place = str | os.PathLike[str]
"""A path."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a model did on a set."""

    results: tuple[Result, ...]
    """One, or one a setting of `sweep`."""
    file: Path
    """The results with versions, machine and hashes of all questions, as JSON."""
    run: Run
    """The run that asked the questions; `rollouts` of it are the answers."""

    def _repr_html_(self) -> str:
        return self.run._repr_html_()


def run(
    recipe: Recipe,
    *overrides: str,
    run_dir: Place | None = None,
    from_stage: str | None = None,
    to_stage: str | None = None,
    force: bool = False,
) -> Run:
    """Run a recipe, or go on where an earlier call or command ended in its folder.

    Args:
        recipe: a shipped recipe's name, a path, or a mapping, whose paths are relative to the
            current folder.
        overrides: changes, such as "stages.reason.lr=2e-6".
        run_dir: where to run; default: runs/NAME in the current folder.
        from_stage: run this stage and all later ones again.
        to_stage: the last stage to run.
        force: go on with stages that were begun with other versions of packages.

    Returns:
        The run at its end. Its report is written, unless a file that it shows is damaged.

    Raises:
        WrongInput: the recipe, an override, a stage's name or the folder cannot be used; a line a
            mistake.
        RunFailed: a stage or the machine failed. What is finished is kept, and the same call goes
            on.
        Stopped: Ctrl-C, or the kernel was interrupted. The first asks for a clean stop after the
            step that runs, the second stops at once; the same call goes on.

    Example:
        stepwell.run("quickstart", "stages.reason.steps=8", to_stage="reason")
    """
    from pipeline.watch.notebook_console import person_console

    folder = _path(run_dir)
    resolved = planned(recipe, overrides, tell=_tell, run_dir=folder, goes_on=True)
    result = run_planned(
        resolved,
        run_dir=folder,
        from_stage=from_stage,
        to_stage=to_stage,
        console=person_console(),
        tell=_tell,
        force=force,
    )
    from pipeline.watch.report import report_if_readable

    report_if_readable(result.run_dir, tell=_tell)
    return read_run(result.run_dir)


def plan(recipe: Recipe, *overrides: str) -> "RunPlan":
    """What a recipe would do: stages, batches, tokens, memory, hours and placement. Runs nothing.

    Args:
        recipe: as for `run`.
        overrides: as for `run`.

    Raises:
        WrongInput: the recipe, an override or a file that it names cannot be used.

    Example:
        stepwell.plan("quickstart").document["estimate"]["hours"]
    """
    from pipeline.plan.data_notes import data_notes
    from pipeline.watch.plan_record import RunPlan

    resolved = planned(recipe, overrides, tell=_tell)
    return RunPlan.of(resolved, data_notes(resolved.recipe))


def evaluate(
    model: Place,
    *overrides: str,
    on: Place,
    data: Place | None = None,
    limit: int | None = None,
    samples: int = 1,
    max_tokens: int | None = None,
    temperature: float | None = None,
    reward: str | None = None,
    effort: str | None = None,
    depth: int | None = None,
    budget: float | None = None,
    sweep: str | None = None,
    engine: str = "auto",
    trust_remote_code: bool = False,
    run_dir: Place | None = None,
    to: Place = "evals",
) -> Evaluation:
    """Evaluate a model on a set, as `stepwell eval --on` does.

    Args:
        model: a model's folder (`Run.models` has those of a run), a GGUF file, package:NAME or a
            hub id.
        overrides: changes of the evaluation's recipe, such as "hardware.engine_threads=2".
        on: gsm8k, math500, humaneval, mbpp, task:NAME, or a file of rows.
        data: the rows of a named set: a file, a folder or a hub id in place of its own.
        limit: the first so many rows.
        samples: completions of a row; with several there are pass@k and a majority vote.
        max_tokens: of a completion.
        temperature: default: 0 for one sample, else 0.6.
        reward: what judges answers, such as "own.py:judge"; default: the set's own.
        effort, depth, budget: what decides a recurrent model's iterations; at most one of them.
        sweep: settings one after another, such as "effort=low,medium,high".
        engine: vllm, native or auto.
        trust_remote_code: whether the code that the model brings along may run.
        run_dir: where to run; default: runs/eval-MODEL-SET.
        to: the folder for the results and their recipe.

    Raises:
        WrongInput: there is no such set, file or setting, or the model cannot be used.
        RunFailed: as for `run`.
        Stopped: as for `run`.

    Example:
        stepwell.evaluate(run.models["student"], on="task:swaps", limit=50).results[0].accuracy
    """
    from pipeline.use.evaluate_on import evaluate_on
    from pipeline.use.evaluation import checked_depth
    from pipeline.watch.notebook_console import person_console

    evaluation = evaluate_on(
        os.fspath(model),
        os.fspath(on),
        overrides,
        data=None if data is None else os.fspath(data),
        limit=limit,
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        reward=reward,
        asked=checked_depth({"effort": effort, "depth": depth, "budget": budget}),
        sweep=sweep,
        engine=engine,
        trusted=trust_remote_code,
        run_dir=_path(run_dir),
        to=Path(to),
        console=person_console(),
        tell=_tell,
    )
    return Evaluation(
        results=tuple(Result.of(row) for row in evaluation.rows),
        file=evaluation.file,
        run=read_run(evaluation.run.run_dir),
    )


def open_run(folder: Place) -> Run:
    """The run in a folder, finished or not, also while it goes on elsewhere.

    Raises:
        WrongInput: the folder is no run's, or a file of it is damaged.

    Example:
        stepwell.open_run("runs/quickstart").results
    """
    return read_run(Path(folder))


def rollouts(run: Run | Place, stage: str | None = None, *, step: int | None = None) -> "DataFrame":
    """What the model wrote and how it was rewarded, a row a completion.

    Columns: stage, step (of GRPO, from 1 on; else missing), model (of an evaluation; else None),
    prompt_id, sample, question, gold, completion, reward (None: nothing could judge it),
    reward.NAME and verdict.NAME of each reward (unweighted), details (why, by reward), tokens
    (count), depth (mean iterations of a token; None of a dense model), stop ("eos" or "length"),
    weight_version.

    Args:
        run: what `run` or `open_run` returned, or a run's folder.
        stage: a GRPO, reject or evaluate stage; default: all of them.
        step: of GRPO stages.

    Raises:
        WrongInput: the folder is no run's, or has no such rollouts; the message says which there
            are.

    Example:
        stepwell.rollouts("runs/quickstart", "reason").groupby("step")["reward"].mean()
    """
    from pipeline.watch.frames import rollout_frame

    return rollout_frame(_folder(run), stage=stage, step=step)


def metrics(run: Run | Place, stage: str | None = None) -> "DataFrame":
    """What stages measured, a row a step: the stage, and a column a metric.

    Args:
        run: what `run` or `open_run` returned, or a run's folder.
        stage: default: every stage that has metrics.

    Raises:
        WrongInput: the folder is no run's, or the stage has no metrics.

    Example:
        stepwell.metrics("runs/quickstart", "reason").plot(x="step", y="reward")
    """
    from pipeline.watch.frames import metric_frame

    return metric_frame(_folder(run), stage=stage)


def reward(
    spec: str | Mapping[str, Any],
    completion: str,
    *,
    prompt: str = "",
    gold: str | float | Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    args: Mapping[str, Any] | None = None,
) -> Reward:
    """What a reward gives to one completion: value, verdict, details and cost. It is computed in a
    process of its own with a limit of CPU time, as in a run.

    Args:
        spec: builtin:NAME, path/file.py:fn or package.module:fn, or a reward as recipes write it:
            {"use": ..., "args": {...}}.
        completion: what a model wrote.
        prompt: the question.
        gold: the right answer, or all answers that are right.
        columns: what else the prompt's row has.
        args: keyword arguments of the reward, as under `args` in a recipe.

    Returns:
        The reward. Its value is None where it could not tell, which leaves a sample out of a run;
        with the verdict "infra_error" it was a fault, which `detail` has.

    Raises:
        RewardNotFound: there is no such reward, or it does not take the arguments.
        WrongInput: `spec` is no reward of a recipe.

    Example:
        stepwell.reward("builtin:math_answer", "<think>2+2</think>4", gold="4").value
    """
    from pipeline.use.one_reward import one_reward

    return one_reward(
        spec, completion, prompt=prompt, gold=gold, columns=columns or {}, args=args or {}
    )


def _folder(run: Run | Place) -> Path:
    return run.folder if isinstance(run, Run) else Path(run)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _tell(sentence: str) -> None:
    StandardError().print(Text(sentence))
