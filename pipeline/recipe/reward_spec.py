"""`rewards:`: what judges a completion, by name or by source."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import (
    Field,
    model_validator,
)

from pipeline.recipe.section import Fraction, Strict, exactly_one


class Judge(Strict):
    """What computes a reward, and its keyword arguments. A bare text stands for `use`."""

    use: str
    """`builtin:NAME`, `path/file.py:fn` or `package.module:fn`."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return _judge(given)


class RewardSpec(Strict):
    """One named reward: its weight in the sum, and one judge, or one per source.

    A source is a prompts entry, or a value of its `source_column`. `{gsm8k: builtin:math_answer,
    mbpp: ...}` is short for `{by_source: {...}}`.
    """

    use: str | None = None
    """`builtin:NAME`, `path/file.py:fn` or `package.module:fn`."""
    by_source: dict[str, Judge] | None = None
    """A judge for each source that samples come from, in place of one for all."""
    weight: float = 1.0
    """Factor of this reward in the sum of a stage's rewards."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the function."""

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


def spelled_out(given: Any) -> Any:
    """A reward's short forms: a mapping of sources to judges as `by_source`, and a judge's text as
    its `use`."""
    known = ("use", "by_source", "weight", "args")
    if not isinstance(given, dict):
        return given
    if isinstance(routes := given.get("by_source"), dict):
        return {**given, "by_source": {key: _judge(value) for key, value in routes.items()}}
    if {"use", "by_source", "args"} & set(given):
        return given
    routes = {key: value for key, value in given.items() if key != "weight"}
    misspelt = any(get_close_matches(str(key), known, n=1) for key in routes)
    judges = all(isinstance(value, str) or "use" in (value or ()) for value in routes.values())
    if not routes or misspelt or not judges:
        return given
    spelled = {key: value for key, value in given.items() if key == "weight"}
    return {**spelled, "by_source": {key: _judge(value) for key, value in routes.items()}}


def _judge(given: Any) -> Any:
    return {"use": given} if isinstance(given, str) else given


class ModelReward(Strict):
    """A reward-model stage as a reward, in the last fraction of the steps only (R1: 400/1,700)."""

    model: str
    """A reward_model stage."""
    weight: float = 1.0
    """Factor of this reward in the sum of the stage's rewards."""
    last_fraction: Fraction = 0.25
    """Share of the steps, the last ones, in which it counts. R1: 400 of 1,700."""
