"""A plan as an object: what a program reads, and what people are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.plan.data_notes import DataNotes
from pipeline.plan.stage_plan import Plan
from pipeline.watch.html_tables import html_lines, html_table
from pipeline.watch.plan_view import COLUMNS, PlanText, plan_document, plan_text


@dataclass(frozen=True, kw_only=True, repr=False)
class RunPlan:
    """What a recipe would do. As text, and in a notebook, it says what `stepwell plan` does."""

    name: str
    """The recipe's."""
    stages: tuple[str, ...]
    """Names, in the order in which they run."""
    device: str
    """cpu or cuda."""
    document: Mapping[str, Any]
    """All numbers, as `stepwell plan --json` has them."""
    text: PlanText

    @classmethod
    def of(cls, plan: Plan, data: DataNotes) -> "RunPlan":
        """From a resolved recipe and what is odd about its data."""
        return cls(
            name=plan.recipe.name,
            stages=tuple(stage.name for stage in plan.stages),
            device=plan.device,
            document=plan_document(plan, data),
            text=plan_text(plan, data),
        )

    def __repr__(self) -> str:
        return str(self.text)

    def _repr_html_(self) -> str:
        table = html_table(COLUMNS, self.text.rows)
        return f"{html_lines(self.text.head)}{table}{html_lines(self.text.tail)}"
