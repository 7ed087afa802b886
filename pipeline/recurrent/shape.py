"""What a recurrent model's forward pass costs, as arithmetic. Pure: loads no ML library.

A multiply-add is 2 FLOPs. Matrix products and attention are counted; norms, activations, the
embedding lookup and softmaxes are not (under 1 % at any width that trains).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .request import HEAD_RULES, READOUT_RULES, DepthRequest

MODEL_TYPE = "stepwell_recurrent"
"""The `model_type` in the config.json of a recurrent model."""

DENSE_TYPES = ("llama", "qwen2", "qwen3")
"""The same of dense models that a recurrent one can equal."""

TIED_ITERATIONS = 8
"""The deepest of a dense model whose core is iterated, where nothing else is asked."""
COPIED_ITERATIONS = 2
"""The same where every iteration has a copy of the core: each more is as many layers again."""

LOOKING_BACK = (*READOUT_RULES, "q_exit")
"""Rules that pay for a look after every iteration, also where `min_depth` keeps them from leaving:
engines keep each iteration's readout, and the product of the gates."""


@dataclass(frozen=True, kw_only=True)
class RecurrentShape:
    """Sizes of a prelude-core-coda model; the names are `RecurrentConfig`'s."""

    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_size: int
    prelude: int
    core: int
    coda: int
    vocabulary: int
    injection: str
    num_iterations: int
    max_iterations: int
    experts: int | None = None
    experts_per_token: int = 2
    halting_width: int | None = None
    tie_iterations: bool = True


def shape_of(config: Mapping[str, Any]) -> RecurrentShape:
    """The shape that a model's `config.json` describes. Raises KeyError for a field it lacks."""
    return RecurrentShape(
        hidden=config["hidden_size"],
        mlp=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        prelude=config["prelude_layers"],
        core=config["core_layers"],
        coda=config["coda_layers"],
        vocabulary=config["vocab_size"],
        injection=config["injection"],
        num_iterations=config["num_iterations"],
        max_iterations=config["max_iterations"],
        experts=config["num_experts"],
        experts_per_token=config["experts_per_token"],
        halting_width=config["halting_width"],
        tie_iterations=config.get("tie_iterations", True),
    )


def block_flops(shape: RecurrentShape, *, context: float, experts: bool = False) -> float:
    """One block on one token that attends to `context` tokens, itself included."""
    heads = shape.heads * shape.head_size
    keys = 2 * shape.kv_heads * shape.head_size
    projections = shape.hidden * (2 * heads + keys)
    mlp = 3 * shape.hidden * shape.mlp
    if experts and shape.experts is not None:
        mlp = mlp * shape.experts_per_token + shape.hidden * shape.experts
    return 2 * (projections + mlp) + 4 * heads * context


def iteration_flops(shape: RecurrentShape, *, context: float, first: bool = False) -> float:
    """One core iteration on one token, injection included."""
    adapted = shape.injection == "linear" or (shape.injection == "gated" and not first)
    adapter = 4 * shape.hidden**2 if adapted else 0
    return adapter + shape.core * block_flops(shape, context=context, experts=True)


def skipped_flops(shape: RecurrentShape, *, depth: int) -> float:
    """What a token that left after `depth` iterations costs in those after them.

    Nothing where they are tied, as it shows the keys and values it left with; blocks of their own
    project them from its state, which the injection mixes once.
    """
    iterations = shape.max_iterations - depth
    if shape.tie_iterations or iterations < 1:
        return 0.0
    adapter = 4 * shape.hidden**2 if shape.injection in ("linear", "gated") else 0
    projections = shape.core * 4 * shape.hidden * shape.kv_heads * shape.head_size
    return float(adapter + iterations * projections)


def readout_flops(shape: RecurrentShape, *, context: float) -> float:
    """The coda and the output head on one token."""
    return shape.coda * block_flops(shape, context=context) + head_flops(shape)


def head_flops(shape: RecurrentShape) -> float:
    """The output head on one token."""
    return 2 * shape.hidden * shape.vocabulary


def gate_flops(shape: RecurrentShape) -> float:
    """One look of the exit gate, a linear map to one number."""
    return 2.0 * shape.hidden


def policy_flops(shape: RecurrentShape) -> float:
    """One decision of the halting policy."""
    return 0.0 if shape.halting_width is None else 2 * shape.halting_width * (shape.hidden + 4)


def token_flops(
    shape: RecurrentShape,
    *,
    context: float,
    depth: int,
    decisions: int = 0,
    rule: str = "fixed",
    head: bool = True,
) -> float:
    """One position at `depth` iterations, with what its exit rule's `decisions` cost, and where
    iterations are not tied, those that it left out."""
    dense = (shape.prelude + shape.coda) * block_flops(shape, context=context)
    core = iteration_flops(shape, context=context, first=True)
    core += (depth - 1) * iteration_flops(shape, context=context)
    core += skipped_flops(shape, depth=depth)
    check = 0.0
    if rule in READOUT_RULES:
        check = readout_flops(shape, context=context)
    elif rule in HEAD_RULES:
        check = policy_flops(shape)
    elif rule == "q_exit":
        check = gate_flops(shape)
    return dense + core + decisions * check + (head_flops(shape) if head else 0.0)


def rollout_flops(
    shape: RecurrentShape, *, prompt_tokens: int, depths: Sequence[int], request: DepthRequest
) -> float:
    """Forward FLOPs of a prompt and its completion, exit checks included.

    Position j attends to j + 1 tokens; prompt positions but the last need no head. A rule decides
    after every iteration from `min_depth` on except the cap's; rules that look back, at readouts
    or at all gates so far, look from the first iteration on; the policy decides once per segment.
    A prompt counts in full for every completion, also where an engine ran it once for several.
    """
    before = prompt_tokens - 1
    prompt = _several(
        shape,
        tokens=before,
        contexts=before * (before + 1) // 2,
        depth=request.prefill_depth,
        head=False,
    )
    kinds: dict[tuple[int, int], tuple[int, int]] = {}  # tokens and contexts by depth and decisions
    for index, depth in enumerate(depths):
        kind = depth, _checks(request, depth, index=index)
        tokens, contexts = kinds.get(kind, (0, 0))
        kinds[kind] = tokens + 1, contexts + prompt_tokens + index
    return prompt + sum(
        _several(
            shape,
            tokens=tokens,
            contexts=contexts,
            depth=depth,
            decisions=decisions,
            rule=request.rule,
        )
        for (depth, decisions), (tokens, contexts) in kinds.items()
    )


def _several(
    shape: RecurrentShape, *, tokens: int, contexts: int, depth: int, **options: Any
) -> float:
    """Positions of one kind, from the sum of what they attend to: costs are linear in it."""
    alone = token_flops(shape, context=0, depth=depth, **options)
    by_context = token_flops(shape, context=1, depth=depth, **options) - alone
    return tokens * alone + contexts * by_context


def _checks(request: DepthRequest, depth: int, *, index: int) -> int:
    """Observations that the rule paid for at generated token `index`."""
    if request.rule in ("fixed", "schedule"):
        return 0
    if request.rule == "policy" and index % request.segment:
        return 0  # the segment's first token decided
    first = 1 if request.rule in LOOKING_BACK else request.min_depth
    return max(0, min(depth, request.planned(index) - 1) - first + 1)
