"""What a model weighs and what its layers are, as far as a plan needs to know. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Sizes of a Llama-type model's layers: attention, gated MLP, two norms before them."""

    layers: int
    hidden: int
    query: int  # heads x head size
    kv: int  # KV heads x head size
    mlp: int
    vocabulary: int
    head_norms: bool = False  # queries and keys are normed too, as in Qwen 3
    iterated: int = 0  # layers of a recurrent core

    def passed(self, iterations: int) -> int:
        """Layers that a token passes, counting a core once per iteration."""
        return self.layers + (iterations - 1) * self.iterated


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What a model weighs. `kv_values` is numbers in the KV cache per token; None is unknown.

    `run` is the parameters that a token passes, counting a recurrent core once per iteration.
    """

    parameters: float
    kv_values: int | None = None
    iterated: float = 0.0  # parameters of a recurrent core
    iterations: int = 1  # of it, per token
    sides: float = 0.0  # inputs and outputs of all linear layers but the head; 0 is unknown
    layers: Layers | None = None  # None is unknown

    @property
    def run(self) -> float:
        return self.parameters + (self.iterations - 1) * self.iterated

    def adapters(self, rank: int) -> float:
        """Parameters of adapters on every linear layer but the head.

        Where the layers are not known, from the size: within a fifth for Qwen2.5 and Llama 3.1.
        """
        return rank * (self.sides or 3.5 * self.parameters**0.6)
