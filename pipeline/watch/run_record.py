"""A run as an object: its folder, how far it is, its results and its models."""

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.artifacts import published
from pipeline.stages.progress import StageState
from pipeline.stages.support import MODEL_FOLDER
from pipeline.watch.console import RESULT_COLUMNS, duration, result_cells
from pipeline.watch.html_tables import html_table
from pipeline.watch.run_reading import REPORT_FILE, json_of, recipe_of


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one model did on held-out prompts."""

    model: str
    """The stage that made it, or `base`."""
    accuracy: float
    """Share of the prompts' samples at full marks, mean over prompts, from 0 to 1."""
    ci_low: float
    ci_high: float
    """Its 95 % interval."""
    prompts: str = ""
    """The prompts entry."""
    problems: int = 0
    """Prompts that count: those with a sample that could be scored."""
    samples_per_prompt: int = 1
    pass_at: Mapping[str, float | None] = field(default_factory=dict)
    """Chance of a right answer among k samples, by k as text; None where no prompt has k."""
    majority_vote: float | None = None
    """Accuracy of the answer that most samples of a prompt give."""
    mean_tokens: float | None = None
    truncated_share: float | None = None
    """Share of samples cut off at the token limit."""
    unscored: int = 0
    """Samples that the reward could not judge; they are left out."""
    minutes: float | None = None
    """That the model's stage took."""
    effort: str | None = None
    budget: float | None = None
    depth: int | None = None
    """What decided the iterations of a recurrent model; at most one of the three."""
    mean_depth: float | None = None
    """Iterations of a token, of a recurrent model."""
    flops_per_answer: float | None = None
    joules_per_answer: float | None = None
    energy_source: str | None = None
    """`nvml` or `rapl`, which measure, or `analytic`: an estimate by FLOPs."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Result":
        """From a row of `results.json`."""
        known = {one.name for one in fields(cls)}
        return cls(**{key: value for key, value in row.items() if key in known})

    def _repr_html_(self) -> str:
        return html_table(RESULT_COLUMNS, [result_cells(asdict(self))])


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's folder and what is in it, as of the moment when it was read. A notebook shows it as
    a table."""

    folder: Path
    name: str
    """The recipe's."""
    stages: tuple[StageState, ...]
    """How far each stage is, in order: name, kind, status, seconds, artifact (a folder), error."""
    results: tuple[Result, ...]
    """A row a model and evaluate stage; none before the run has come to its end."""
    models: Mapping[str, Path]
    """The folders of the models that there are, by stage, and `base`: transformers loads them."""
    report: Path | None
    """The report's page; None where none was written."""

    @property
    def is_done(self) -> bool:
        """Whether every stage is finished."""
        return all(stage.status == "done" for stage in self.stages)

    def _repr_html_(self) -> str:
        rows = [(s.name, s.kind, s.status, duration(s.seconds), s.error or "") for s in self.stages]
        stages = html_table(("stage", "kind", "status", "time", "error"), rows)
        results = [result_cells(asdict(result)) for result in self.results]
        table = html_table(RESULT_COLUMNS, results) if results else ""
        report = f"<br>report: {html.escape(str(self.report))}" if self.report else ""
        place = html.escape(str(self.folder))
        return f"<b>{html.escape(self.name)}</b>{stages}{table}run folder: {place}{report}"


def read_run(folder: Path) -> Run:
    """The run in a folder, finished or not.

    Raises RunReadError where the folder is no run's, or a file of it is damaged.
    """
    folder = folder.expanduser().resolve()
    name = str(recipe_of(folder).get("name", folder.name))
    report = folder / REPORT_FILE
    places = [(path.name, path / MODEL_FOLDER) for path in published(folder / "stages")]
    base = folder / "inputs" / "base" / MODEL_FOLDER
    models = {name: path for name, path in [("base", base), *places] if path.is_dir()}
    return Run(
        folder=folder,
        name=name,
        stages=tuple(_state(folder, row) for row in json_of(folder / "state.json")),
        results=tuple(Result.of(row) for row in json_of(folder / "results.json")),
        models=models,
        report=report if report.is_file() else None,
    )


def _state(folder: Path, row: Mapping[str, Any]) -> StageState:
    artifact = row.get("artifact")
    return StageState(**{**row, "artifact": artifact and str(folder / artifact)})
