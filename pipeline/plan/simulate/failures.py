"""Hours lost to nodes that die, and to checkpoints against it.

A node's life is exponential, so is the time to the first death of many. After one the run starts
again from its newest checkpoint. Steps since then are trained again; their rollouts are not sampled
again, but replayed from the journal.
"""

import math
import random
from dataclasses import dataclass

NODE_MTBF_HOURS = 6_300.0
"""Of a node of eight GPUs: 419 interruptions in 54 days of 16,384 GPUs (Llama 3, arXiv 2407.21783,
section 3.3.4)."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Of a whole stage, in seconds."""

    total: float  # from its begin to its end
    checkpoints: float
    repeated: float
    restarting: float
    deaths: int


def with_failures(
    *,
    steps: int,
    step_s: float,
    repeated_share: float,
    every: int,
    checkpoint_s: float,
    restart_s: float,
    mtbf_s: float,
    seed: int,
) -> Losses:
    """A stage's steps with deaths in between.

    Args:
        repeated_share: of a step, that is done again after a death: its training and sync.
        every: steps between checkpoints.
        mtbf_s: mean seconds between deaths of all nodes together; inf: none.
    """
    rng = random.Random(seed)
    now, done, kept, deaths = 0.0, 0, 0, 0
    reached = 0  # steps that are in the journal
    checkpoints = repeated = restarting = 0.0
    death = now + _life(rng, mtbf_s)
    while done < steps:
        again = done < reached
        span = step_s * (repeated_share if again else 1.0)
        saves = (done + 1) % every == 0 and done + 1 < steps
        end = now + span + (checkpoint_s if saves else 0.0)
        if death < end:
            repeated += max(death - now, 0.0)
            restarting += restart_s
            now, done, deaths = death + restart_s, kept, deaths + 1
            death = now + _life(rng, mtbf_s)
            continue
        now = end
        repeated += span if again else 0.0
        done += 1
        reached = max(reached, done)
        if saves:
            checkpoints += checkpoint_s
            kept = done
    return Losses(
        total=now,
        checkpoints=checkpoints,
        repeated=repeated,
        restarting=restarting,
        deaths=deaths,
    )


def _life(rng: random.Random, mtbf_s: float) -> float:
    return math.inf if math.isinf(mtbf_s) else rng.expovariate(1 / mtbf_s)


def expected_s(
    work_s: float, *, interval_s: float, checkpoint_s: float, restart_s: float, mtbf_s: float
) -> float:
    """Expected seconds of `work_s` with a checkpoint after every `interval_s` of it, all since the
    last done again (Daly, Future Generation Computer Systems 22(3), 2006, equation 13, but for
    deaths while restarting): M (e^((t + c) / M) - 1) W / t, and R of every death.
    """
    parts, grown = work_s / interval_s, math.expm1((interval_s + checkpoint_s) / mtbf_s)
    return (mtbf_s + restart_s) * grown * parts


def best_interval_s(*, checkpoint_s: float, mtbf_s: float) -> float:
    """Seconds between checkpoints at which the least is lost: sqrt(2 c M) (Young, Communications of
    the ACM 17(9), 1974).

    >>> best_interval_s(checkpoint_s=10.0, mtbf_s=20_000.0)
    632.45...
    """
    return math.sqrt(2 * checkpoint_s * mtbf_s)
