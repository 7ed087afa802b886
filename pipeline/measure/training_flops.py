"""FLOPs of training on tokens, as arithmetic. Pure: loads no ML library.

    forward   2 x (weights that multiply a token) + 4 x (width of attention) x (tokens attended to)
    training  3 x forward: the backward pass has two products for each of the forward one

This is the count of PaLM (arXiv 2204.02311, appendix B: 6 N + 12 L H Q T a token), with the pairs
of tokens that do attend to each other in place of T, and a head's products only where its output is
read. A multiply-add is 2 FLOPs; norms, activations, softmaxes and the optimizer are not counted,
and neither is what gradient checkpointing computes again: FLOPs are those that training needs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenCost:
    """Forward FLOPs by what they grow with."""

    token: float  # every token
    pair: float  # every token that a token attends to, itself included
    read: float  # every token whose output is read: the head
    iteration: float = 0.0  # every iteration of a recurrent core after a token's first
    iteration_pair: float = 0.0  # the same, of every token that it attends to there


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What went through a model: counts and sums over tokens."""

    tokens: int
    pairs: int  # sum of the tokens that each attends to, itself included
    read: int  # tokens whose output is read
    iterations: int = 0  # sum of each token's iterations after its first
    iteration_pairs: int = 0  # sum of both multiplied


def dense_cost(
    *, weights: float, head: float, layers: int, heads: int, head_size: int
) -> TokenCost:
    """Of a transformer by the weights that multiply every token, those of its head apart.

    >>> dense_cost(weights=100.0, head=10.0, layers=2, heads=4, head_size=8)
    TokenCost(token=200.0, pair=256, read=20.0, iteration=0.0, iteration_pair=0.0)
    """
    return TokenCost(token=2 * weights, pair=4 * layers * heads * head_size, read=2 * head)


def forward_flops(cost: TokenCost, tokens: Tokens) -> float:
    """One forward pass.

    >>> cost = TokenCost(token=200.0, pair=1.0, read=20.0)
    >>> forward_flops(cost, Tokens(tokens=3, pairs=6, read=1))
    626.0
    """
    return (
        cost.token * tokens.tokens
        + cost.pair * tokens.pairs
        + cost.read * tokens.read
        + cost.iteration * tokens.iterations
        + cost.iteration_pair * tokens.iteration_pairs
    )


def speed_row(*, tokens: int, flops: float, seconds: float, gflops: float) -> dict[str, float]:
    """A row's metrics of what was trained: tokens, GFLOP/s achieved in the training phase, and
    their share of `gflops`, the machine's speed of matrix products; nothing where nothing was
    counted.

    >>> speed_row(tokens=10, flops=6e9, seconds=2.0, gflops=4.0)
    {'training_tokens': 10, 'training_gflops_per_s': 3.0, 'matmul_share': 0.75}
    """
    if not tokens or not flops or seconds <= 0:
        return {}
    rate = flops / seconds / 1e9
    row: dict[str, float] = {"training_tokens": tokens, "training_gflops_per_s": rate}
    return row | ({"matmul_share": rate / gflops} if gflops else {})
