"""The configuration of a recurrent-depth model: prelude, iterated core, coda."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .shape import MODEL_TYPE


@strict
class RecurrentConfig(PreTrainedConfig):
    """Sizes and choices of a prelude-core-coda model.

    With `e` the prelude's output and `s_i` the state after iteration `i`:

    - `injection`: what the core reads at iteration `i`. "linear": a linear map of
      concat(s, e) (Huginn, arXiv 2502.05171, section 3.2); "add": s + e; "none": s alone (Ouro,
      arXiv 2510.25741); "gated": e itself at the first iteration, a linear map of concat(s, e)
      later, and then `s' = s + g (core(u) - s)` with `g` learned: one iteration is a dense model.
    - `block_style`, with n1 to n4 RMS norms. "pre": x + f(n1 x), as Llama; "sandwich":
      n2(x + f(n1 x)), as Huginn; "branch": x + n2(f(n1 x)), as Ouro.
    - `state_init`: s_0 is "zero", "normal" (drawn by seed and position, standard deviation
      `state_init_std`), or the "input" e.
    - `tie_iterations`: the same `core_layers` blocks run at every iteration. False: each of the
      `max_iterations` has `core_layers` blocks of its own, copies of a core or layers that a token
      may leave out: these then project its keys and values from the state it left with, and
      nothing else.
    - `iteration_norm`: the norm `core_norm` ends every iteration (Ouro); `exit_norm`: it is
      applied once, to the state that leaves the core (Huginn). Not both.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ["past_key_values", "last_hidden_state", "depths"]

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 1536
    prelude_layers: int = 1
    core_layers: int = 2
    coda_layers: int = 1
    num_attention_heads: int = 8
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_parameters: dict | None = None
    qkv_bias: bool = False  # Qwen2; Huginn's qk_bias
    output_bias: bool = False  # of the attention's output projection
    mlp_bias: bool = False
    qk_norm: bool = False  # Qwen3: RMS norm of every query and key head
    num_experts: int | None = None  # mixture of experts in the core's blocks
    experts_per_token: int = 2
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool = True
    embedding_scale: float = 1.0

    tie_iterations: bool = True
    block_style: Literal["pre", "sandwich", "branch"] = "sandwich"
    injection: Literal["linear", "add", "none", "gated"] = "linear"
    state_init: Literal["zero", "normal", "input"] = "zero"
    state_init_std: float = 1.0
    state_seed: int = 0
    iteration_norm: bool = False
    exit_norm: bool = True
    final_norm: bool = True

    num_iterations: int = 4  # depth where nobody asks for another
    max_iterations: int = 8  # the deepest that a token may run; KV planes in engines
    backprop_iterations: int | None = None  # gradients through a token's last k; None: all
    kv_planes: int | None = None  # inference only: iterations share k planes, `(i - 1) mod k`
    warm_start: bool = False  # inference: s_0 is the previous token's last state
    exit_gate: bool = False  # a gate for Q-exit: sigmoid(w s + b) after each iteration
    halting_width: int | None = None  # hidden units of the halting policy; None: no policy

    def __post_init__(self, **kwargs: Any) -> None:
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__(**kwargs)

    @property
    def num_hidden_layers(self) -> int:
        """Layers with weights of their own."""
        return self.prelude_layers + self.core_blocks + self.coda_layers

    @property
    def core_blocks(self) -> int:
        """Blocks of the core with weights of their own."""
        return self.core_layers * (1 if self.tie_iterations else self.max_iterations)

    @property
    def reenters(self) -> bool:
        """Whether a further iteration enters a core again, the same or a copy, where untied ones
        go on to its next layers."""
        return self.tie_iterations or self.injection != "none"

    @property
    def passed_blocks(self) -> int:
        """Blocks of the core that one way through it passes: a dense model's layers there."""
        return self.core_layers if self.reenters else self.core_blocks

    def blocks_of(self, iteration: int) -> slice:
        """Which of the core's blocks run at an iteration (from 1)."""
        first = 0 if self.tie_iterations else (iteration - 1) * self.core_layers
        return slice(first, first + self.core_layers)

    def validate_architecture(self) -> None:
        """Refuse what cannot be built. Part of `@strict`.

        Raises ValueError naming the field and its fix.
        """
        for name, least in (("core_layers", 1), ("prelude_layers", 0), ("coda_layers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.head_dim is not None and self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions pair it up")
        if self.num_attention_heads % (self.num_key_value_heads or self.num_attention_heads):
            raise ValueError(
                f"num_key_value_heads={self.num_key_value_heads} must divide "
                f"num_attention_heads={self.num_attention_heads}"
            )
        if not 1 <= self.num_iterations <= self.max_iterations:
            raise ValueError(
                f"num_iterations={self.num_iterations} must lie between 1 and "
                f"max_iterations={self.max_iterations}"
            )
        if self.iteration_norm and self.exit_norm:
            raise ValueError("iteration_norm and exit_norm exclude each other: set one to false")
        if self.injection == "none" and self.state_init != "input":
            raise ValueError('injection="none" reads the input through state_init="input"')
        if self.kv_planes is not None and not self.tie_iterations:
            raise ValueError(
                f"kv_planes={self.kv_planes} shares keys and values between iterations, which have "
                "blocks of their own with tie_iterations=false: set kv_planes to null"
            )
        for name in ("backprop_iterations", "kv_planes", "halting_width", "num_experts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or null")
        if self.num_experts is not None and not 1 <= self.experts_per_token <= self.num_experts:
            raise ValueError(
                f"experts_per_token={self.experts_per_token} must lie between 1 and "
                f"num_experts={self.num_experts}"
            )


def register_config() -> None:
    """Let transformers read our configurations and tokenizers without code from their folder."""
    AutoConfig.register(MODEL_TYPE, RecurrentConfig, exist_ok=True)
    RecurrentConfig.register_for_auto_class()
