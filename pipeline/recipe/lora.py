"""`lora:` of a stage that trains a language model."""

from pydantic import PositiveInt, model_validator

from pipeline.recipe.section import Strict, listed

ALL_LINEAR = "all-linear"
LATER = "later-iterations"


class Lora(Strict):
    """Low-rank adapters learn, the model's own weights stay (arXiv 2106.09685). What a stage makes
    is whole weights with the adapters added, and the adapters beside them."""

    rank: PositiveInt = 16
    """Rank of an adapter's two factors. Ours."""
    alpha: PositiveInt = 32
    """Adapters count alpha / rank times. Ours."""
    targets: list[str] | str = ALL_LINEAR
    """Layers with an adapter: `all-linear`, all but the output head; the ends of layers' names, one
    or several: [q_proj, v_proj]; or `later-iterations`, those that only iterations after the first
    run (`model.copy_core`), and the map between iterations learns whole."""

    @model_validator(mode="after")
    def _check(self) -> "Lora":
        if not self.names and not self.is_everywhere and not self.is_later:
            raise ValueError("targets is empty; write all-linear or names of layers")
        for word in (ALL_LINEAR, LATER):
            if word in self.names:
                raise ValueError(f"targets: {word} stands alone; write targets: {word}")
        return self

    @property
    def is_everywhere(self) -> bool:
        """Whether every linear layer but the output head has an adapter."""
        return self.targets == ALL_LINEAR

    @property
    def is_later(self) -> bool:
        """Whether layers have one that only iterations after the first run."""
        return self.targets == LATER

    @property
    def names(self) -> list[str]:
        """Ends of the layers' names, where layers are named."""
        return [] if self.is_everywhere or self.is_later else listed(self.targets)
