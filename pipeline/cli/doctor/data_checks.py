"""Whether a recipe's prompts can be had, and its golds and rewards are what they should be, tried
on a few rows of each entry."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.data_check import gold_problems, gold_sample
from pipeline.cli.doctor.check import Check, wrong
from pipeline.errors import StepwellError
from pipeline.plan.data_notes import data_notes
from pipeline.prompts.entries import source_prompts
from pipeline.prompts.findings import golds_of, place_of
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.hub_reach import endpoint, silence
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.routing import judge_of, watched_reward
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import SAMPLED_ROLES
from pipeline.records import Prompt
from rewards.pool import Pool
from rewards.registry import ABOUT_FORM

SAMPLE = 16
"""Rows of an entry that are looked at, evenly apart; ours."""
GENERATED = 64
"""Rows that a task or a gym makes for it."""
LONGEST = 4
"""The longest questions among an entry's rows, which are rendered too."""


def load_entries(recipe: Recipe, *, hub_answers: bool) -> Iterator[tuple[Check, str, list[Prompt]]]:
    """Every prompts entry: a check, its name, and its rows, few of a generated one and none of a
    hub's, which the run downloads, unless the hub does not answer and its cache is read."""
    for name, source in recipe.prompts.items():
        label = f"data {name}"
        if source.hub is not None and not _is_folder(source) and hub_answers:
            yield _on_hub(label, source), name, []
            continue
        try:
            rows = source_prompts(_smaller(recipe, name, source), name)
        except StepwellError as error:
            yield wrong(label, str(error)), name, []
            continue
        made = source.task or source.gym
        count = f"{source.size:,} rows are made" if made else f"{len(rows):,} rows"
        yield Check(name=label, status="fine", why=count), name, rows


def _is_folder(source: PromptSource) -> bool:
    return source.hub is not None and Path(source.hub).is_dir()


def _smaller(recipe: Recipe, name: str, source: PromptSource) -> Recipe:
    if source.size is None or not (source.task or source.gym):
        return recipe
    few = source.model_copy(update={"size": min(source.size, GENERATED)})
    return recipe.model_copy(update={"prompts": {**recipe.prompts, name: few}})


def _on_hub(label: str, source: PromptSource) -> Check:
    """Whether the hub has a data set for who asks; its rows are downloaded by the run."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    assert source.hub is not None
    identity = source.hub.partition(":")[0]
    try:
        HfApi().dataset_info(identity)
    except HfHubHTTPError as error:
        code = error.response.status_code
        if code in (401, 403):
            fix = f"ask for access at {endpoint()}/datasets/{identity}, then hf auth login"
        else:
            fix = "correct the id, or give its files: file: PATH"
        return Check(name=label, status="wrong", why=f"{identity}: the hub says {code}", fix=fix)
    return Check(name=label, status="fine", why=f"{identity} is on the hub; rows come with the run")


def hub_check() -> Check | None:
    """A warning where the hub, which the recipe needs, does not answer."""
    fault = silence(endpoint())
    if fault is None:
        return None
    return Check(
        name="hub",
        status="warning",
        why=f"{endpoint()} does not answer ({fault}); only what is in its cache here can be used",
        fix="connect to the network, set HF_ENDPOINT to a mirror, or give files and folders",
    )


def note_checks(recipe: Recipe) -> Iterator[Check]:
    """What `plan` says about the rows of files: repeated, with two golds, in the held-out set."""
    try:
        notes = data_notes(recipe)
    except PromptError:  # the entry's own check says it
        return
    for finding in notes.findings:
        status = "wrong" if finding.level == "error" else "warning"
        fix = finding.fix or "remove them, or leave them in on purpose"
        yield Check(name="rows", status=status, why=finding.sentence, fix=fix)
    for text in notes.targets:
        why, _, fix = text.partition(": a model trained")
        yield Check(name="rows", status="warning", why=why, fix=f"a model trained{fix}")


def gold_checks(recipe: Recipe, entries: Mapping[str, Sequence[Prompt]]) -> Iterator[Check]:
    """Golds of a few rows under the rewards that judge answers, and every other reward on one."""
    with Pool(recipe.hardware.verifier_workers) as pool:
        for entry, reward, judge in _judged(recipe):
            rows = spread(entries.get(entry, ()), SAMPLE)
            if not rows:
                continue
            if _is_about_answers(recipe, reward, judge):
                yield _golds(pool, entry, reward, rows, judge)
            else:
                yield from _answers(pool, entry, reward, rows[0], judge)


def _judged(recipe: Recipe) -> Iterator[tuple[str, str, Judge]]:
    """(prompts entry, reward, judge), each once."""
    pairs = {
        (item.name, reward): None
        for stage in recipe.stages.values()
        for item in stage.inputs()
        if item.role in SAMPLED_ROLES
        for reward in stage.reward_names()
    }
    for entry, reward in pairs:
        if (judge := judge_of(recipe, reward, entry)) is not None:
            yield entry, reward, judge


def _is_about_answers(recipe: Recipe, reward: str, judge: Judge) -> bool:
    """Whether a gold answer should score 1."""
    if judge.use.startswith("builtin:"):
        return judge.use.removeprefix("builtin:") not in ABOUT_FORM
    stages = recipe.stages.values()
    counted = [n for s in stages if s.product == "report" for n in s.reward_names()]
    counted += [watched_reward(recipe, s) for s in stages if isinstance(s, GrpoStage) and s.watch]
    return reward in counted


def _golds(pool: Pool, entry: str, reward: str, rows: Sequence[Prompt], judge: Judge) -> Check:
    name, problems = f"golds {entry}", gold_problems(pool, rows, judge)
    if problems:
        first = problems[0]
        place = first["place"] or f"row {first['row']} of those tried"
        return Check(
            name=name,
            status="wrong" if 2 * len(problems) >= len(rows) else "warning",
            why=f"{len(problems)} of {len(rows)} rows tried are wrong under {reward}, such as "
            f"{place}: {first['problem']}: {first['answer']!r}",
            fix="correct the rows, columns.answer, answer_after or the reward; all of them: "
            "stepwell data check",
        )
    golds = {gold for row in rows for gold in golds_of(row)}
    if len(golds) == 1 and len(rows) > 2:
        return Check(
            name=name,
            status="warning",
            why=f"all of {len(rows)} rows tried have the gold {next(iter(golds))!r}",
            fix="a model learns to say it whatever is asked: name the answers' column",
        )
    return Check(
        name=name,
        status="fine",
        why=f"{len(rows)} of {len(rows)} rows tried score 1 under {reward}",
    )


def _answers(pool: Pool, entry: str, reward: str, row: Prompt, judge: Judge) -> Iterator[Check]:
    """A reward that cannot score one row, which masks every sample of a run."""
    scored = pool.submit(judge.use, gold_sample(row, says=row.answer), args=judge.args).result()
    if scored.value is None:
        detail = "; ".join(f"{key}: {value}" for key, value in scored.detail.items())
        yield Check(
            name=f"reward {reward}",
            status="wrong",
            why=f"scores nothing on {place_of(row)} of {entry}: {scored.verdict}: {detail}"[:400],
            fix=f"mend the function; try it: stepwell reward test {judge.use}",
        )


def spread(rows: Sequence[Any], count: int) -> list[Any]:
    """So many of the rows, evenly apart, the first among them.

    >>> spread(list(range(10)), 3)
    [0, 3, 6]
    """
    few = [rows[place * len(rows) // count] for place in range(count)]
    return few if len(rows) > count else [*rows]
