"""A journaled step scored anew, with the rewards of the run's recipe as they are now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.errors import WrongInput
from pipeline.generate.journal import Journal
from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import weighted_sum
from pipeline.plan.plan import stage_seed
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.load import load_recipe
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.routing import judge_of
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt, Scored, read_prompts, read_scored
from pipeline.stages.support import PROMPTS_FILE
from pipeline.watch.rollout_log import harmless, sample_of, steps_of
from pipeline.watch.run_reading import recipe_text
from pipeline.watch.terminal import StandardOutput
from rewards.api import Reward
from rewards.pool import Pool

PRINTED = 20
"""Samples that a terminal shows: those that differ first."""


class ReplayError(WrongInput):
    """There is no such step to score anew; the message says what there is."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What rewards gave a completion."""

    reward: float | None
    components: Mapping[str, float | None]  # unweighted, by reward
    verdicts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One completion with both scores."""

    group: str
    sample: int
    question: str
    gold: str | None
    completion: str
    stored: Score
    new: Score
    differs: tuple[str, ...]  # rewards whose value or verdict is another
    seed_agrees: bool  # with what the recipe's seed, the step and the prompt give


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A step of a GRPO stage."""

    stage: str
    step: int
    groups: int
    rewards: tuple[str, ...]  # that scored anew
    kept: tuple[str, ...]  # reward models' scores: as they are stored
    rows: Sequence[Replayed]

    @property
    def different(self) -> list[Replayed]:
        """The completions that are scored otherwise."""
        return [row for row in self.rows if row.differs]

    def document(self) -> dict[str, Any]:
        """What `stepwell replay --json` prints."""
        return {
            "stage": self.stage,
            "step": self.step,
            "groups": self.groups,
            "samples": len(self.rows),
            "rewards": list(self.rewards),
            "kept": list(self.kept),
            "different": len(self.different),
            "seeds_agree": all(row.seed_agrees for row in self.rows),
            "rows": [asdict(row) for row in self.rows],
        }


def replay(
    run_dir: Path,
    *,
    stage: str,
    step: int,
    rendered: Callable[[Sequence[int]], str] | None = None,
    workers: int = 1,
) -> Replay:
    """Score the completions of a journaled step, counted from 1, again. `rendered` gives a prompt's
    text from its tokens; without it rewards see the bare question. A reward model's part is kept as
    it is stored.

    Raises RunReadError where the folder is no run's, RecipeError for a recipe that no longer loads,
    ReplayError where the step, its prompts or its stage are not there.
    """
    recipe_text(run_dir)
    recipe = load_recipe(str(run_dir / "recipe.yaml"))
    spec = _spec(recipe, stage)
    scored = _journaled(run_dir, stage, step)
    prompts = _prompts(run_dir, spec.prompts)
    gone = sorted({s.rollout.prompt_id for s in scored} - prompts.keys())
    if gone:
        raise ReplayError(
            f"{len(gone)} prompts of step {step}, such as {gone[0]}, are no longer among those of "
            f"inputs/{spec.prompts}; run the recipe again, which restores them"
        )
    uses = [
        (name, judge)
        for name in spec.reward_names()
        if (judge := judge_of(recipe, name, spec.prompts)) is not None
    ]
    model = spec.model_reward
    weights = {name: recipe.rewards[name].weight for name, _ in uses}
    weights |= {} if model is None else {model.model: model.weight}
    seed = stage_seed(recipe.seed, stage)
    with Pool(workers) as pool:
        waiting = [
            [pool.submit(judge.use, sample, args=judge.args, base=Path.cwd()) for _, judge in uses]
            for sample in (
                sample_of(
                    s,
                    prompts[s.rollout.prompt_id],
                    name=f"{s.rollout.group}/{s.rollout.sample}",
                    step=step,
                    rendered=rendered,
                    max_tokens=spec.max_tokens,
                )
                for s in scored
            )
        ]
        rows = [
            _row(
                s,
                prompts[s.rollout.prompt_id],
                {name: future.result() for (name, _), future in zip(uses, futures, strict=True)},
                weights=weights,
                seed=derived_seed(seed, step - 1, s.rollout.group, s.rollout.sample),
            )
            for s, futures in zip(scored, waiting, strict=True)
        ]
    return Replay(
        stage=stage,
        step=step,
        groups=len({s.rollout.group for s in scored}),
        rewards=tuple(name for name, _ in uses),
        kept=() if model is None or not _has(scored, model.model) else (model.model,),
        rows=rows,
    )


def show_replay(replay: Replay) -> None:
    """Print stored and new rewards side by side."""
    console = StandardOutput()
    console.print(
        Text(
            f"{replay.stage}, step {replay.step}: {len(replay.rows)} completions of "
            f"{replay.groups} groups, {len(replay.different)} scored otherwise",
            "bold",
        )
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("prompt", "", *replay.rewards, "reward"):
        table.add_column(column, overflow="fold")
    others = [row for row in replay.rows if not row.differs]
    for row in [*replay.different, *others][:PRINTED]:
        cells = [_cell(row, name) for name in replay.rewards]
        table.add_row(Text(row.group), f"#{row.sample}", *cells, _change(row.stored, row.new))
    console.print(table)
    if len(replay.rows) > PRINTED:
        console.print(f"and {len(replay.rows) - PRINTED} more (--json has all)", style="dim")
    for name in replay.kept:
        console.print(f"{name} is a reward model: its scores are as they are stored", style="dim")
    if not all(row.seed_agrees for row in replay.rows):
        console.print(
            "some seeds are not those that the recipe gives: the step is of another seed or recipe",
            style="yellow",
        )


def _cell(row: Replayed, name: str) -> Text:
    """A reward's two values and verdicts where they differ, else the one."""
    before, after = row.stored, row.new
    old = f"{_value(before.components.get(name))} {harmless(before.verdicts.get(name, ''))}"
    new = f"{_value(after.components.get(name))} {harmless(after.verdicts.get(name, ''))}"
    return Text(f"{old} -> {new}", "bold yellow") if name in row.differs else Text(old)


def _change(before: Score, after: Score) -> str:
    old, new = _value(before.reward), _value(after.reward)
    return old if old == new else f"{old} -> {new}"


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _spec(recipe: Recipe, stage: str) -> GrpoStage:
    spec = recipe.stages.get(stage)
    grpo = [name for name, other in recipe.stages.items() if isinstance(other, GrpoStage)]
    if not isinstance(spec, GrpoStage):
        what = "is no stage of the recipe" if spec is None else f"is of kind {spec.kind}"
        raise ReplayError(
            f"--stage {stage} {what}{did_you_mean(stage, grpo)}; steps are journaled by GRPO "
            f"stages ({', '.join(grpo) or 'the recipe has none'})"
        )
    return spec


def _journaled(run_dir: Path, stage: str, step: int) -> list[Scored]:
    steps = steps_of(run_dir, stage)
    if step not in steps:
        there = f"it has {len(steps)}, {min(steps)} to {max(steps)}" if steps else "it has none"
        raise ReplayError(f"stage {stage} of {run_dir} has no journaled step {step}: {there}")
    problem = Journal(run_dir / "journal" / stage).damaged().get(step - 1)
    if problem is not None:
        raise ReplayError(f"{steps[step]} {problem}; the run's own command makes it again")
    return read_scored(steps[step])


def _prompts(run_dir: Path, entry: str) -> dict[str, Prompt]:
    file = run_dir / "inputs" / entry / PROMPTS_FILE
    if not file.is_file():
        raise ReplayError(
            f"{file} is missing, so golds are unknown; run the recipe again, which restores it"
        )
    return {prompt.id: prompt for prompt in read_prompts(file)}


def _row(
    scored: Scored,
    prompt: Prompt,
    rewards: Mapping[str, Reward],
    *,
    weights: Mapping[str, float],
    seed: int,
) -> Replayed:
    """A completion beside its new rewards."""
    components = {
        name: rewards[name].value if name in rewards else value
        for name, value in scored.components.items()
    } | {name: reward.value for name, reward in rewards.items()}
    new = Score(
        reward=weighted_sum(components, {name: weights.get(name, 0.0) for name in components}),
        components=components,
        verdicts=dict(scored.verdicts) | {name: r.verdict for name, r in rewards.items()},
    )
    stored = Score(
        reward=scored.reward, components=dict(scored.components), verdicts=dict(scored.verdicts)
    )
    differs = tuple(
        name
        for name in rewards
        if (stored.components.get(name), stored.verdicts.get(name))
        != (new.components[name], new.verdicts[name])
    )
    return Replayed(
        group=scored.rollout.group,
        sample=scored.rollout.sample,
        question=prompt.question,
        gold=prompt.answer,
        completion=scored.text,
        stored=stored,
        new=new,
        differs=differs,
        seed_agrees=scored.rollout.seed == seed,
    )


def _has(scored: Sequence[Scored], name: str) -> bool:
    return any(name in s.components for s in scored)
