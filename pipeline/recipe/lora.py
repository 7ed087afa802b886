"""`lora:` of a stage that trains a language model."""

from pydantic import PositiveInt, model_validator

from pipeline.recipe.section import Strict, listed

ALL_LINEAR = "all-linear"


class Lora(Strict):
    """Low-rank adapters learn, the model's own weights stay (arXiv 2106.09685). What a stage makes
    is whole weights with the adapters added, and the adapters beside them."""

    rank: PositiveInt = 16
    """Rank of an adapter's two factors. Ours."""
    alpha: PositiveInt = 32
    """Adapters count alpha / rank times. Ours."""
    targets: list[str] | str = ALL_LINEAR
    """Layers with an adapter: `all-linear`, all but the output head, or the ends of layers' names,
    one or several: [q_proj, v_proj]."""

    @model_validator(mode="after")
    def _check(self) -> "Lora":
        if not self.names and not self.is_everywhere:
            raise ValueError("targets is empty; write all-linear or names of layers")
        if ALL_LINEAR in self.names:
            raise ValueError(f"targets: {ALL_LINEAR} stands alone; write targets: {ALL_LINEAR}")
        return self

    @property
    def is_everywhere(self) -> bool:
        """Whether every linear layer but the output head has an adapter."""
        return self.targets == ALL_LINEAR

    @property
    def names(self) -> list[str]:
        """Ends of the layers' names; none where every linear layer has an adapter."""
        return [] if self.is_everywhere else listed(self.targets)
