"""`model:` and a distillation's `student:`: where weights come from."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.section import Strict, exactly_one
from pipeline.recurrent.shape import COPIED_ITERATIONS, TIED_ITERATIONS

_RECURRENT_ONLY = {"prelude", "coda", "iterations", "max_iterations"}
PUBLISHED = ("huginn_raven", "ouro")  # recurrent checkpoints of others, converted when loaded


class ScratchModel(Strict):
    """A model with random weights and a character-level tokenizer: Llama-type with `layers`,
    recurrent with `core`, the layers that are iterated."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "vocabulary": "the tokenizer knows characters",
        "kv_heads": "keys and values have as many heads as queries",
    }

    hidden: PositiveInt
    """Width; over `heads` it must be a multiple of 32."""
    layers: PositiveInt | None = None
    """Layers of a Llama-type model."""
    core: PositiveInt | None = None
    """Layers of a recurrent model that are iterated."""
    prelude: int = Field(default=1, ge=0)
    """Layers before the core."""
    coda: int = Field(default=1, ge=0)
    """Layers after the core."""
    iterations: PositiveInt = 4
    """Runs of the core, where nothing else is asked."""
    max_iterations: PositiveInt = 8
    """Runs of the core, the most that may be asked."""
    heads: PositiveInt
    """Attention heads."""
    mlp: PositiveInt
    """Width of the gated MLP."""
    max_position: PositiveInt = 1024
    """Tokens of prompt and completion at most."""

    @model_validator(mode="after")
    def _check(self) -> "ScratchModel":
        exactly_one(self, "layers", "core")
        stray = _RECURRENT_ONLY & self.model_fields_set
        if self.layers is not None and stray:
            raise ValueError(f"{min(stray)} is for recurrent models; give core instead of layers")
        if self.iterations > self.max_iterations:
            raise ValueError(
                f"iterations={self.iterations} is over max_iterations={self.max_iterations}"
            )
        if self.hidden % self.heads or (self.hidden // self.heads) % 32:
            raise ValueError(
                f"hidden={self.hidden} over heads={self.heads} gives a head size of "
                f"{self.hidden / self.heads:g}; vLLM wants a multiple of 32"
            )
        return self


class ModelSource(Strict):
    """Where a model comes from: exactly one of `path`, `hub`, `gguf`, `scratch`."""

    path: str | None = None
    """A folder with config.json, weights and tokenizer."""
    hub: str | None = None
    """A Hugging Face hub id."""
    gguf: str | None = None
    """A GGUF file, or `package:NAME` for one inside a Python package."""
    scratch: ScratchModel | None = None
    """Random weights of a shape of your own."""
    split: tuple[int, int, int] | None = None
    """Makes a dense model recurrent: its layers before, in and after the core that is iterated."""
    tie_iterations: bool = True
    """`false`: iterations of what `split` makes are the core's own layers, which a token may leave
    out; at full depth the model is the dense one."""
    copy_core: bool = False
    """`true`: each iteration after the first has a copy of the core's layers. Where those are
    trained by `lora.targets: later-iterations`, the model stays the dense one at one iteration."""
    max_iterations: PositiveInt | None = None
    """Iterations, at most, of a model that `split` makes; default: 8, with copies of the core 2,
    untied one for each of the core's layers."""
    chat_template: str | None = None
    """A Jinja template in place of the tokenizer's."""
    stop: tuple[str, ...] = ()
    """Tokens, by their text, that end a completion beside those of the model and its template."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and activations."""
    vocabulary: Literal["full", "pruned"] = "full"
    """`pruned`: a run uses the tokens of its prompts and rows, those that spell the rest and 4096
    more; faster where the vocabulary is large for the model. An export has the full one again."""
    trust_remote_code: bool = False
    """Runs the code that the model's folder brings along, where transformers knows no such model:
    it can do anything that you can. `plan` names its files."""

    @property
    def split_iterations(self) -> int:
        """The deepest of a model that `split` makes."""
        assert self.split is not None
        if self.copy_core:
            usual = COPIED_ITERATIONS
        else:
            usual = TIED_ITERATIONS if self.tie_iterations else self.split[1]
        return self.max_iterations or usual

    @property
    def place(self) -> str:
        """Where it is, in a word."""
        return self.path or self.hub or self.gguf or "scratch"

    @model_validator(mode="after")
    def _one(self) -> "ModelSource":
        exactly_one(self, "path", "hub", "gguf", "scratch")
        if self.split is not None and (self.scratch is not None or min(self.split) < 0):
            raise ValueError(
                f"split={list(self.split)} is [prelude, core, coda] layers of a dense model; "
                "a scratch model has its own"
            )
        if self.split is not None and not self.split[1]:
            raise ValueError(f"split={list(self.split)} leaves the core without a layer")
        if self.max_iterations is not None and self.split is None:
            raise ValueError("max_iterations is for a model that split makes recurrent")
        if self.copy_core and (self.split is None or not self.tie_iterations):
            raise ValueError(
                "copy_core is for a model that split makes recurrent, with tied iterations: untied "
                "ones share out the core's layers"
            )
        if self.copy_core and self.max_iterations == 1:
            raise ValueError("copy_core with max_iterations=1 copies nothing: allow 2 or more")
        if not self.tie_iterations:
            self._check_untied()
        if self.scratch is not None and self.vocabulary == "pruned":
            raise ValueError("vocabulary=pruned: a scratch model's characters are few already")
        if self.trust_remote_code:
            self._check_code()
        return self

    def _check_untied(self) -> None:
        if self.split is None:
            raise ValueError("tie_iterations=false is for a model that split makes recurrent")
        if self.split[1] % self.split_iterations:
            raise ValueError(
                f"max_iterations={self.max_iterations} cannot share out the {self.split[1]} core "
                f"layers of split={list(self.split)}: choose a divisor, or leave it out"
            )

    def _check_code(self) -> None:
        if self.path is None and self.hub is None:
            raise ValueError("trust_remote_code is for path and hub: others bring no code along")
        if self.split is not None:
            raise ValueError(
                "split takes Llama-type models of transformers apart, not code that a model brings "
                "along; leave split or trust_remote_code out"
            )
        if self.vocabulary == "pruned":
            raise ValueError(
                "vocabulary=pruned cuts models that transformers knows, not those of code that "
                "they bring along; leave vocabulary or trust_remote_code out"
            )
