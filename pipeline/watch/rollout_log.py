"""What the model wrote, how it was rewarded and why: the rollouts of a run folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console as Terminal
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.artifacts import entries, is_set_aside
from pipeline.errors import WrongInput
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Prompt, Scored, read_prompts, read_scored
from pipeline.watch.terminal import StandardOutput
from rewards.api import Sample

Order = Literal["written", "best", "worst"]
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey
_REASON = 400  # characters of a reward's reason that a rollout shows
_STEP_FILE = re.compile(r"step-(\d+)\.parquet")


class RolloutsError(WrongInput):
    """The run folder has no such rollouts."""


def show(
    run_dir: Path,
    *,
    stage: str | None = None,
    step: int | None = None,
    limit: int = 4,
    order: Order = "written",
) -> list[dict[str, Any]]:
    """Rollouts of one step of a GRPO stage, or of a reject stage, as plain data.

    Without `stage`, the stage that wrote last; without `step`, its last step. `best` and `worst`
    sort by reward, unscored rollouts last and first. Each row has `stage`, `step` (None for a
    reject stage), `prompt_id`, `sample`, `context` (the turns before), `question`, `gold` (both
    None when the run folder no longer has the prompts), `completion`, `tokens`, `stop`, `reward`,
    `components` (unweighted, by reward), `verdicts` and `details` (why, by reward) and
    `weight_version`.

    Raises RolloutsError naming what there is instead.
    """
    stage = stage or _latest_stage(run_dir)
    path, step = _file_of(run_dir, stage, step)
    scored = _ordered(read_scored(path), order)[:limit]
    prompts = prompts_of(run_dir)
    return [_row(s, prompts.get(s.rollout.prompt_id), stage=stage, step=step) for s in scored]


def steps_of(run_dir: Path, stage: str) -> dict[int, Path]:
    """The journaled steps of a GRPO stage, ascending; counted from 1, as consoles and metrics do,
    where files count from 0."""
    found = {
        int(match[1]) + 1: path
        for path in (run_dir / "journal" / stage).glob("step-*.parquet")
        if (match := _STEP_FILE.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def stages_of(run_dir: Path) -> list[str]:
    """The stages that have rollouts, the one that wrote last at the end."""
    written = {path.name: path.stat().st_mtime for path in entries(run_dir / "journal")}
    written = {name: when for name, when in written.items() if steps_of(run_dir, name)}
    for folder in entries(run_dir / "stages"):
        path = folder / "rollouts.parquet"
        if path.is_file():
            written.setdefault(folder.name, path.stat().st_mtime)
    return sorted(written, key=lambda name: (written[name], name))


def prompts_of(run_dir: Path) -> dict[str, Prompt]:
    """The prompts stored in the run folder, by id."""
    return {
        prompt.id: prompt
        for path in sorted(run_dir.glob("*/*/prompts.parquet"))
        if not is_set_aside(path.parent)
        for prompt in read_prompts(path)
    }


def logged_samples(
    run_dir: Path,
    *,
    stage: str | None = None,
    rendered: Callable[[Sequence[int]], str] | None = None,
) -> list[Sample]:
    """What the rewards of a run were asked, in order; of one stage, or of all with rollouts.

    `rendered` gives a prompt's text from its tokens; without it, it is the bare question.

    Raises RolloutsError when there is nothing, or the prompts are gone.
    """
    stages = [stage] if stage else stages_of(run_dir) or [_latest_stage(run_dir)]
    prompts = prompts_of(run_dir)
    found = []
    for name in stages:
        steps = steps_of(run_dir, name)
        files = steps or {None: _file_of(run_dir, name, None)[0]}
        for step, path in files.items():
            found += [_sample(s, prompts, name, step, rendered) for s in read_scored(path)]
    return found


def _sample(
    scored: Scored,
    prompts: Mapping[str, Prompt],
    stage: str,
    step: int | None,
    rendered: Callable[[Sequence[int]], str] | None,
) -> Sample:
    rollout = scored.rollout
    if rollout.prompt_id not in prompts:
        raise RolloutsError(
            f"stage {stage}: prompt {rollout.prompt_id} is no longer in the run folder's prompts, "
            "so its gold answer is unknown; run the recipe again to restore them"
        )
    place = stage if step is None else f"{stage}/{step}"
    return sample_of(
        scored,
        prompts[rollout.prompt_id],
        name=f"{place}/{rollout.prompt_id}/{rollout.sample}",
        step=step,
        rendered=rendered,
    )


def sample_of(
    scored: Scored,
    prompt: Prompt,
    *,
    name: str,
    step: int | None,
    rendered: Callable[[Sequence[int]], str] | None,
    max_tokens: int | None = None,
) -> Sample:
    """A completion as rewards were shown it, of a step counted from 1; they count from 0.
    `rendered` as in `logged_samples`."""
    rollout = scored.rollout
    return Sample(
        prompt=prompt.question if rendered is None else rendered(rollout.prompt_tokens),
        completion=scored.text,
        gold=prompt.answer,
        golds=prompt.golds,
        columns=prompt.columns,
        id=name,
        step=None if step is None else step - 1,
        completion_tokens=len(rollout.tokens),
        max_tokens=max_tokens,
        finished=rollout.stop == "eos",
    )


def print_rollouts(rows: Sequence[Mapping[str, Any]], *, terminal: Terminal | None = None) -> None:
    """Print the rows of `show`: prompt, completion, and each reward with its verdict."""
    terminal = terminal or StandardOutput()
    for row in rows:
        terminal.print(rollout_panel(row))


def _latest_stage(run_dir: Path) -> str:
    stages = stages_of(run_dir)
    if not stages:
        raise nothing_written(run_dir)
    return stages[-1]


def nothing_written(run_dir: Path) -> RolloutsError:
    """Of a run without rollouts."""
    return RolloutsError(
        f"{run_dir} has no rollouts; GRPO stages write them under journal/, reject stages "
        "under stages/NAME/rollouts.parquet"
    )


def no_such_stage(run_dir: Path, stage: str, known: Sequence[str]) -> RolloutsError:
    """Of a stage that has no rollouts, where the `known` ones have."""
    return RolloutsError(
        f"stage {stage!r} has no rollouts in {run_dir}{did_you_mean(stage, known)} "
        f"(stages with rollouts: {', '.join(known) or 'none'})"
    )


def no_such_step(stage: str, step: int, steps: Sequence[int]) -> RolloutsError:
    """Of a step that a stage's journal does not hold, which holds others."""
    return RolloutsError(
        f"stage {stage} has no journaled step {step}; "
        f"it has {len(steps)} between {min(steps)} and {max(steps)}"
    )


def no_steps(stage: str) -> RolloutsError:
    """Of a step of a stage that has none."""
    return RolloutsError(f"stage {stage} samples once and has no steps; leave the step out")


def _file_of(run_dir: Path, stage: str, step: int | None) -> tuple[Path, int | None]:
    """(parquet file, step) of what was asked for."""
    steps = steps_of(run_dir, stage)
    harvest = run_dir / "stages" / stage / "rollouts.parquet"
    if not steps and harvest.is_file():
        if step is not None:
            raise no_steps(stage)
        return harvest, None
    if not steps:
        raise no_such_stage(run_dir, stage, stages_of(run_dir))
    step = max(steps) if step is None else step
    if step not in steps:
        raise no_such_step(stage, step, list(steps))
    return steps[step], step


def _ordered(scored: list[Scored], order: Order) -> list[Scored]:
    if order == "written":
        return scored
    lowest_first = sorted(scored, key=lambda s: float("-inf") if s.reward is None else s.reward)
    return lowest_first if order == "worst" else lowest_first[::-1]


def _row(scored: Scored, prompt: Prompt | None, *, stage: str, step: int | None) -> dict[str, Any]:
    return {
        "stage": stage,
        "step": step,
        "prompt_id": scored.rollout.prompt_id,
        "sample": scored.rollout.sample,
        "context": [dict(turn) for turn in prompt.context] if prompt else [],
        "question": prompt.question if prompt else None,
        "gold": prompt.answer if prompt else None,
        "completion": scored.text,
        "tokens": len(scored.rollout.tokens),
        "stop": scored.rollout.stop,
        "reward": scored.reward,
        "components": dict(scored.components),
        "verdicts": dict(scored.verdicts),
        "details": {name: dict(detail) for name, detail in scored.details.items()},
        "weight_version": scored.rollout.weight_version,
    }


def rollout_panel(row: Mapping[str, Any]) -> Panel:
    """One rollout as a box: its border is green for a full reward, red for none."""
    reward, components = row["reward"], row["components"]
    style = "yellow" if reward is None else _style(reward)
    said = "unscored" if reward is None else f"reward {reward:.3f}"
    place = row["stage"] if row["step"] is None else f"{row['stage']}, step {row['step']}"
    grid = Table.grid(padding=(0, 2))
    for name, value in components.items():
        verdict = row["verdicts"].get(name, "")
        shown = "none" if value is None else f"{value:.3f}"
        grid.add_row(
            Text(name), Text(shown, "yellow" if value is None else _style(value)), Text(verdict)
        )
        for key, reason in row["details"].get(name, {}).items():
            grid.add_row("", "", Text(harmless(f"{key}: {reason}")[:_REASON], "dim"))
    question = Text()
    for turn in row["context"]:
        question.append(f"{turn['role']}: {harmless(turn['content'])}\n", "dim")
    question.append(harmless(row["question"] or f"(prompt {row['prompt_id']})"), "bold")
    if row["gold"] is not None:
        question.append(f"   gold: {row['gold']}", "dim")
    ending = f"{row['tokens']} tokens" + (", cut off" if row["stop"] == "length" else "")
    return Panel(
        Group(question, Text(), thinking_dimmed(row["completion"]), Text(), grid),
        title=Text(f"{place}, prompt {row['prompt_id']}, sample {row['sample']}"),
        title_align="left",
        subtitle=Text(f"{said}, {ending}"),
        subtitle_align="left",
        border_style=style,
    )


def thinking_dimmed(completion: str) -> Text:
    """The completion with everything up to `</think>` dimmed."""
    completion = harmless(completion)
    thinking, mark, answer = completion.partition("</think>")
    return Text.assemble((thinking + mark, "dim"), answer) if mark else Text(completion)


def harmless(text: str) -> str:
    """The text with control characters shown as U+FFFD, so that no model drives the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _style(value: float) -> str:
    if value >= 1:
        return "green"
    return "red" if value <= 0 else "yellow"
