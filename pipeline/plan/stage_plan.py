"""A recipe resolved: its stages in order, with inputs, seeds and fingerprints."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import WrongInput
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import Input


class PlanError(WrongInput):
    """The recipe is well-formed but cannot run: a missing reference, a cycle, uneven batches."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """One stage, resolved."""

    name: str
    kind: str
    spec: Stage
    inputs: tuple[Input, ...]
    seed: int  # derived from the recipe's seed and the stage's name
    fingerprint: str  # of everything that decides the stage's result, inputs included
    work_fingerprint: str  # of all that, but for what only its last part reads


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe ready to run. `stages` is in an order in which every input comes first."""

    recipe: Recipe
    stages: tuple[StagePlan, ...]
    fingerprints: Mapping[str, str]  # of `base`, every prompts entry and every stage
    device: str  # cpu or cuda
    cores: int  # that the threads which a recipe leaves to us are counted from
