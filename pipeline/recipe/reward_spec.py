"""`rewards:`: what judges a completion, by name or by source."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import (
    Field,
    PrivateAttr,
    model_validator,
)

from pipeline.recipe.section import Fraction, Strict, exactly_one
from rewards.routes import BY_ROW
from rewards.routes import by_row as by_row_args


class Judge(Strict):
    """What computes a reward, and its keyword arguments. A bare text stands for `use`."""

    use: str  # `builtin:NAME`, `path/file.py:fn` or `package.module:fn`
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"use": given} if isinstance(given, str) else given


class RewardSpec(Strict):
    """One named reward: its weight in the sum, and one judge, or one per source.

    A source is a prompts entry, or a value of its `source_column`. `{gsm8k: builtin:math_answer,
    mbpp: ...}` is short for `{by_source: {...}}`.
    """

    use: str | None = None  # as in Judge
    by_source: dict[str, Judge] | None = None  # by the source that a sample comes from
    weight: float = 1.0
    args: dict[str, Any] = Field(default_factory=dict)
    _columns: dict[str, str] = PrivateAttr(default_factory=dict)  # by prompts entry; set by Recipe

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, given: Any) -> Any:
        return spelled_out(given)

    @model_validator(mode="after")
    def _one(self) -> "RewardSpec":
        exactly_one(self, "use", "by_source")
        if self.by_source is not None and self.args:
            raise ValueError("args stand beside each use of by_source: {ENTRY: {use: ..., args}}")
        return self

    def routes(self) -> Sequence[tuple[str | None, Judge]]:
        """Every judge with its source as written; None for one that judges all."""
        if self.use is not None:
            return [(None, Judge(use=self.use, args=self.args))]
        return list((self.by_source or {}).items())

    def judges(self) -> Sequence[tuple[str | None, Judge]]:
        """Every judge with its prompts entry; one that routes for entries with `source_column`."""
        if self.use is not None:
            return self.routes()
        routes = {source: (judge.use, judge.args) for source, judge in self.routes() if source}
        by_row = [
            (entry, Judge(use=BY_ROW, args=by_row_args(column, routes)))
            for entry, column in self._columns.items()
        ]
        return [*(pair for pair in self.routes() if pair[0] not in self._columns), *by_row]

    def judge(self, source: str) -> Judge | None:
        """What judges samples of a prompts entry; None when nothing does."""
        return dict(self.judges()).get(None if self.use is not None else source)

    def judges_of(self, entry: str) -> list[Judge]:
        """All that may judge samples of a prompts entry."""
        if entry in self._columns and self.use is None:
            return [judge for _, judge in self.routes()]
        judge = self.judge(entry)
        return [] if judge is None else [judge]


def spelled_out(given: Any) -> Any:
    """A reward's short form, a mapping of sources to judges, as `by_source`."""
    known = ("use", "by_source", "weight", "args")
    if not isinstance(given, dict) or {"use", "by_source", "args"} & set(given):
        return given
    routes = {key: value for key, value in given.items() if key != "weight"}
    misspelt = any(get_close_matches(str(key), known, n=1) for key in routes)
    judges = all(isinstance(value, str) or "use" in (value or ()) for value in routes.values())
    if not routes or misspelt or not judges:
        return given
    return {**{key: given[key] for key in given if key == "weight"}, "by_source": routes}


class ModelReward(Strict):
    """A reward-model stage as a reward, in the last fraction of the steps only (R1: 400/1,700)."""

    model: str
    weight: float = 1.0
    last_fraction: Fraction = 0.25
