"""What a plan says about the rows of a recipe's files: odd ones, and those that are left out.

Files alone are read; what our tasks, reasoning-gym and the hub give is told by `data check` and by
the run, which load it.
"""

from dataclasses import dataclass

from pipeline.measure.drops import Drop
from pipeline.plan.row_mistakes import target_notes
from pipeline.prompts.entries import load_entry, reference_sources, source_prompts
from pipeline.prompts.findings import Finding, recipe_findings
from pipeline.recipe.schema import Recipe


@dataclass(frozen=True, kw_only=True)
class DataNotes:
    """What is odd about the data, and what a run would leave out."""

    findings: list[Finding]
    drops: list[Drop]
    targets: list[str]
    """Stages whose rows hold no answer."""
    later: list[str]
    """Entries with `decontaminate` that are counted when they are loaded."""

    @property
    def sentences(self) -> list[str]:
        """For people, worst first."""
        return [
            *(f"{finding.level}: {finding.sentence}" for finding in self.findings),
            *(f"warning: {text}" for text in self.targets),
            *(f"note: {drop.sentence}" for drop in self.drops),
            *(f"note: prompts.{name}.decontaminate is counted by the run" for name in self.later),
        ]


def data_notes(recipe: Recipe) -> DataNotes:
    """Raises PromptError for rows that cannot be read."""
    files = {name for name, source in recipe.prompts.items() if source.file is not None}
    later = [
        name
        for name in recipe.prompts
        if recipe.prompts[name].decontaminate
        and not (name in files and all(r.file for r in reference_sources(recipe, name).values()))
    ]
    sources = {name: source_prompts(recipe, name) for name in recipe.prompts if name in files}
    loaded = {
        name: load_entry(recipe, name, loaded=sources) for name in sources if name not in later
    }
    prompts = sources | {name: entry.prompts for name, entry in loaded.items()}
    return DataNotes(
        findings=recipe_findings(recipe, prompts),
        drops=[drop for entry in loaded.values() for drop in entry.drops if drop.dropped],
        targets=list(target_notes(recipe, sources)),
        later=later,
    )
