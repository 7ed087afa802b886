"""Which prompts and seeds a step uses: pure functions of (seed, step), so that a resume repeats."""

import hashlib
import random
from collections.abc import Sequence

from pipeline.records import Prompt


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on every part and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def version_of_step(step: int, *, ahead: int) -> int:
    """The weights that a step's rollouts are made with, by the step that begins with them.

    >>> [version_of_step(step, ahead=1) for step in range(4)]
    [0, 0, 1, 2]
    """
    return max(step - ahead, 0)


def prompts_of_step(prompts: Sequence[Prompt], *, seed: int, step: int, count: int) -> list[Prompt]:
    """The step's `count` prompts: consecutive slices of one shuffled pass after another."""
    first = step * count
    return [prompts[_index(i, len(prompts), seed)] for i in range(first, first + count)]


def replacements_of_step(
    prompts: Sequence[Prompt],
    *,
    seed: int,
    step: int,
    attempt: int,
    count: int,
    used: frozenset[str],
) -> list[Prompt]:
    """Up to `count` prompts for dropped groups, none of them in `used`."""
    rng = random.Random(derived_seed(seed, "replace", step, attempt))
    order = rng.sample(range(len(prompts)), min(len(prompts), count + len(used)))
    return [prompts[i] for i in order if prompts[i].id not in used][:count]


_ORDERS: dict[tuple[int, int, int], list[int]] = {}


def _index(position: int, size: int, seed: int) -> int:
    epoch, offset = divmod(position, size)
    key = (seed, epoch, size)
    if key not in _ORDERS:
        _ORDERS.clear()
        order = list(range(size))
        random.Random(derived_seed(seed, "epoch", epoch)).shuffle(order)
        _ORDERS[key] = order
    return _ORDERS[key][offset]
