"""The prompts of a recipe's entry as a run uses them: loaded, and decontaminated by other sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.measure.drops import Drop
from pipeline.prompts.overlap import NGRAM, Match, find_matches
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.routing import row_routes
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt

WHY = {"equal": "the same question is in {}", "ngram": f"{NGRAM} words in a row are in {{}} too"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A prompts entry, and the rows that were left out of it by the reference that has them."""

    prompts: list[Prompt]
    left_out: Mapping[str, Sequence[Match]]
    drops: tuple[Drop, ...]


def load_entry(
    recipe: Recipe, name: str, *, loaded: Mapping[str, Sequence[Prompt]] | None = None
) -> Entry:
    """The prompts of an entry without those that its `decontaminate` sets have too.

    `loaded` has the rows of entries that the caller loaded already, as their sources have them.

    Raises PromptError for rows that cannot be read, and where nothing would be left.
    """
    loaded = loaded or {}
    prompts = list(loaded.get(name) or source_prompts(recipe, name))
    references = {
        reference: loaded.get(reference) or _reference_prompts(recipe, name, reference)
        for reference in recipe.prompts[name].decontaminate
    }
    if not references:
        return Entry(prompts=prompts, left_out={}, drops=())
    left_out = find_matches(prompts, references)
    gone = {match.row.id for of_one in left_out.values() for match in of_one}
    if len(gone) == len(prompts):
        raise PromptError(
            f"prompts.{name}.decontaminate: all {len(prompts)} rows are in "
            f"{', '.join(references)}; nothing is left"
        )
    return Entry(
        prompts=[prompt for prompt in prompts if prompt.id not in gone],
        left_out=left_out,
        drops=tuple(_drops(name, len(prompts), left_out)),
    )


def source_prompts(recipe: Recipe, name: str) -> list[Prompt]:
    """The prompts of an entry as its source has them."""
    source, routes = recipe.prompts[name], row_routes(recipe, name)
    return load_prompts(name, source, seed=recipe.seed, routes=routes)


def reference_sources(recipe: Recipe, name: str) -> dict[str, PromptSource]:
    """Where the sets come from that an entry is decontaminated by: entries, or files."""
    return {
        reference: recipe.prompts.get(reference) or PromptSource(file=reference)
        for reference in recipe.prompts[name].decontaminate
    }


def reference_mistakes(recipe: Recipe, name: str) -> Iterator[str]:
    """References that name nothing, or the entry itself."""
    key = f"prompts.{name}.decontaminate"
    for reference in recipe.prompts[name].decontaminate:
        if reference == name:
            yield f"{key}: {name} cannot be decontaminated by itself; name held-out sets"
        elif reference not in recipe.prompts and not Path(reference).is_file():
            others = [entry for entry in recipe.prompts if entry != name]
            yield (
                f"{key}: {reference} is neither a prompts entry{did_you_mean(reference, others)} "
                f"({', '.join(others) or 'there is no other'}) nor a file; correct it"
            )


def _reference_prompts(recipe: Recipe, name: str, reference: str) -> list[Prompt]:
    """The rows of a set; a file may call its questions what the entry's own source calls them."""
    if reference in recipe.prompts:
        return source_prompts(recipe, reference)
    theirs = {k: v for k, v in recipe.prompts[name].columns.items() if k == "question"}
    errors: list[PromptError] = []
    for columns in (theirs, {}) if theirs else ({},):
        try:
            source = PromptSource(file=reference, columns=columns)
            return load_prompts(name, source, seed=recipe.seed)
        except PromptError as error:
            errors.append(error)
    raise PromptError(
        f"prompts.{name}.decontaminate: {errors[0]}; or give the file an entry of its own, with "
        "its columns, and name that"
    )


def _drops(name: str, total: int, left_out: Mapping[str, Sequence[Match]]) -> Iterator[Drop]:
    for reference, of_one in left_out.items():
        for kind, why in WHY.items():
            yield Drop(
                what="rows",
                reason=why.format(Path(reference).name),
                dropped=sum(match.kind == kind for match in of_one),
                total=total,
                key=f"prompts.{name}.decontaminate",
            )
