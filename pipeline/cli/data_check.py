"""Data proves itself: every prompts entry loads, and its gold answers score full marks."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pipeline.measure.drops import Drop, drop_rows
from pipeline.plan.stage_plan import PlanError
from pipeline.prompts.entries import Entry, load_entry, source_prompts
from pipeline.prompts.findings import Finding, SameGold, golds_of, recipe_findings
from pipeline.prompts.golds import check_golds
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.reward_spec import Judge
from pipeline.recipe.routing import judge_of
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt
from rewards.api import Reward, Sample
from rewards.lazy_programs import idle_tests, paid_for_nothing
from rewards.pool import Pool


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """What was found in a recipe's data."""

    entries: list[dict[str, Any]]
    """By prompts entry: `prompts`, `rows`, `dropped`, `checked` (in words) and `problems`."""
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether every gold is right, as far as can be told."""
        wrong = any(entry["problems"] for entry in self.entries)
        return not wrong and all(finding.level != "error" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """What `stepwell data check --json` prints."""
        return {
            "ok": self.is_sound,
            "prompts": self.entries,
            "findings": [finding.document() for finding in self.findings],
        }


def show_check(check: DataCheck, *, limit: int) -> None:
    """Print it, with `limit` wrong golds of an entry at most."""
    for entry in check.entries:
        print(f"{entry['prompts']:12} {entry['rows']:>8,} rows  {entry['checked']}")
        for drop in entry["dropped"]:
            print(f"  {Drop(**drop).sentence}")
        for row in entry["problems"][:limit]:
            place = row["place"] or f"row {row['row']}"
            print(f"  {place}: {row['problem']}: {row['answer']!r}")
        if len(entry["problems"]) > limit:
            print(f"  and {len(entry['problems']) - limit} more")
    for finding in check.findings:
        print(f"{finding.level}: {finding.sentence}")


def check_data(recipe: Recipe, *, reward: str | None = None) -> DataCheck:
    """Load every prompts entry and judge its golds.

    Golds are judged by `reward`, by default the first evaluate stage's. Entries that no stage
    samples from are only loaded.

    Raises PlanError for an unknown reward, PromptError for an entry that cannot be loaded.
    """
    name = reward or _judge(recipe)
    if name not in recipe.rewards:
        guess = did_you_mean(name, recipe.rewards)
        known = ", ".join(recipe.rewards) or "none"
        raise PlanError(f"rewards.{name}: there is no such reward{guess} (rewards has {known})")
    inputs = [item for stage in recipe.stages.values() for item in stage.inputs()]
    sampled = {item.name for item in inputs if item.is_sampled}
    judges = {entry: judge_of(recipe, name, entry) for entry in recipe.prompts if entry in sampled}
    sources = {entry: source_prompts(recipe, entry) for entry in recipe.prompts}
    loaded = {entry: load_entry(recipe, entry, loaded=sources) for entry in recipe.prompts}
    with Pool(recipe.hardware.verifier_workers) as pool:
        findings = recipe_findings(
            recipe,
            {entry: content.prompts for entry, content in loaded.items()},
            near=True,
            same_gold=lambda entry: _same_gold(pool, judges.get(entry)),
        )
        entries = [
            _entry(pool, entry, content, judges.get(entry), reward=name)
            for entry, content in loaded.items()
        ]
    return DataCheck(entries=entries, findings=findings)


def _entry(
    pool: Pool, name: str, content: Entry, judge: Judge | None, *, reward: str
) -> dict[str, Any]:
    problems = gold_problems(pool, content.prompts, judge) if judge else []
    return {
        "prompts": name,
        "rows": len(content.prompts),
        "dropped": drop_rows(content.drops),
        "checked": _words(problems, reward) if judge else "loaded",
        "problems": problems,
    }


def _words(problems: list[dict[str, Any]], reward: str) -> str:
    weak = sum(row["score"] == 1.0 for row in problems)
    words = f"gold answers wrong under {reward}: {len(problems) - weak}"
    return f"{words}, weak tests: {weak}" if weak else words


def _judge(recipe: Recipe) -> str:
    reports = (stage for stage in recipe.stages.values() if stage.product == "report")
    return next((name for stage in reports for name in stage.reward_names()), "answer")


def gold_problems(pool: Pool, prompts: Sequence[Prompt], judge: Judge) -> list[dict[str, Any]]:
    """Prompts with a gold that does not score 1, or whose tests pay a program that does nothing.

    All are under way at once.
    """
    scores: dict[str, list[Future[Reward]]] = {
        prompt.id: [
            pool.submit(judge.use, gold_sample(prompt, says=gold), args=judge.args)
            for gold in golds_of(prompt)
        ]
        for prompt in prompts
        if prompt.answer is not None
    }
    samples = [gold_sample(prompt, says=prompt.answer) for prompt in prompts]
    weak = paid_for_nothing(pool, samples, judge.use, args=judge.args)
    earned = {name: _worst(futures) for name, futures in scores.items()}
    idle = {name: idle_tests(reward) for name, reward in earned.items()}
    return check_golds(prompts, lambda prompt: earned[prompt.id].value, tests=idle | weak)


def _worst(futures: Sequence[Future[Reward]]) -> Reward:
    """The reward of the worst of several golds, one that could not be scored before all."""
    rewards = [future.result() for future in futures]
    return min(rewards, key=lambda one: float("-inf") if one.value is None else one.value)


def _same_gold(pool: Pool, judge: Judge | None) -> SameGold | None:
    """Whether the judge takes one row's gold for another's; None without a judge."""
    if judge is None:
        return None

    def same(row: Prompt, other: Prompt) -> bool:
        if row.answer is None or other.answer is None:
            return row.answer == other.answer
        sample = gold_sample(other, says=row.answer)
        return pool.submit(judge.use, sample, args=judge.args).result().value == 1.0

    return same


def gold_sample(prompt: Prompt, *, says: str | None) -> Sample:
    """A completion that gives this answer, to be judged by the prompt's gold."""
    return Sample(
        prompt=prompt.question,
        completion=f"<think>It is given.</think>{says}",
        gold=prompt.answer,
        golds=prompt.golds,
        columns=prompt.columns,
        id=prompt.id,
    )
