"""`kind: export`: a model to hand on."""

from typing import ClassVar, Literal

from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.stage_base import Input, Product, StageBase


class ExportStage(StageBase):
    """A folder to hand on: safetensors, tokenizer, chat template, model card."""

    product: ClassVar[Product] = "folder"

    kind: Literal["export"]
    """A folder to hand on."""
    model: str
    """The model: `base` or a stage."""

    def inputs(self) -> tuple[Input, ...]:
        return (Input.of("model", self.model),)

    @property
    def start(self) -> str | ModelSource:
        return self.model
