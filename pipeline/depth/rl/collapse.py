"""Does the policy still choose? Spread of depths, and what they tell about the prompt. Pure.

Shapes: `_M` completions, `_T` tokens of each.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONSTANT = 0.05
"""A standard deviation of depth under this, in iterations, is one depth for all tokens; ours."""

SHUFFLES = 20
PRICE_BINS = 4
BIN_PROMPTS = 4  # prompts that a bin of prices must hold on average: a deal within one is none


def mutual_information(
    depths: Sequence[Sequence[int]],
    prompts: Sequence[str],
    *,
    log_prices: Sequence[float],
    seed: int,
) -> tuple[float, float]:
    """I(depth; prompt) of tokens in nats beyond chance, and its z-score against chance.

    The histogram estimate is biased upwards; what it gives once completions are dealt out to
    prompts at random, in the mean of SHUFFLES deals, is subtracted. Completions of one prompt
    share a price, which moves depths by itself: they are dealt among prompts of similar price, so
    that the price's part is subtracted too.

    Args:
        depths: [_M][_T].
        prompts: [_M] ids.
        log_prices: [_M] ln(lambda).
    """
    table = _counts(depths)
    names = np.unique(np.asarray(prompts), return_inverse=True)[1]
    observed = _histogram_information(table, names)
    bins = min(PRICE_BINS, max(len(set(prompts)) // BIN_PROMPTS, 1))
    strata = _quantile_bins(np.asarray(log_prices, dtype=float), bins)
    rng = np.random.default_rng(seed)
    chance = []
    for _ in range(SHUFFLES):
        dealt = names.copy()
        for stratum in np.unique(strata):
            inside = np.flatnonzero(strata == stratum)
            dealt[inside] = names[rng.permutation(inside)]
        chance.append(_histogram_information(table, dealt))
    excess = observed - float(np.mean(chance))
    return excess, excess / max(float(np.std(chance)), 1e-12)


def alarms(*, depth_std: float, information_z: float) -> list[str]:
    """What looks like a collapse, in sentences; none where all is well."""
    sentences = []
    if depth_std < CONSTANT:
        sentences.append(
            f"every token runs nearly the same depth (standard deviation {depth_std:.3f}): raise "
            "entropy, or lower the lowest price"
        )
    elif information_z < 2:
        sentences.append(
            "depth says nothing about the prompt (mutual information within chance, "
            f"z = {information_z:.1f}): the policy may see the price alone"
        )
    return sentences


def _counts(depths: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """[_M, deepest + 1] how often each completion ran each depth."""
    deepest = max(max(d, default=0) for d in depths)
    rows = [np.bincount(np.asarray(d, dtype=int), minlength=deepest + 1) for d in depths]
    return np.stack(rows).astype(np.float64)


def _histogram_information(table: NDArray[np.float64], names: NDArray[np.int64]) -> float:
    joint = np.zeros((int(names.max()) + 1, table.shape[1]), dtype=np.float64)
    np.add.at(joint, names, table)
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    nonzero = joint > 0
    return float((joint[nonzero] * np.log(joint[nonzero] / apart[nonzero])).sum())


def _quantile_bins(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="right")


def spread(depths: Sequence[Sequence[int]], prompts: Sequence[str]) -> tuple[float, float, float]:
    """Mean depth of tokens, its standard deviation over tokens, and over prompts' means."""
    flat = np.concatenate([np.asarray(d, float) for d in depths])
    by_prompt: dict[str, list[int]] = {}
    for ran, prompt in zip(depths, prompts, strict=True):
        by_prompt.setdefault(prompt, []).extend(ran)
    means = [float(np.mean(ran)) for ran in by_prompt.values()]
    return float(flat.mean()), float(flat.std()), math.sqrt(float(np.var(means)))
