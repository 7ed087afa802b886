"""One rank of GRPO on given rollouts: `grpo_rank_worker.py JOB.pickle SLICE.pickle`."""

import dataclasses
import pickle
import sys
from pathlib import Path

from pipeline.generate.client import Slice, Weights
from pipeline.train import grpo_trainer
from tests.train.pushed import joined


class OneStep:
    """A rollout client of a single step, whose weights nobody needs."""

    def __init__(self, whole: Slice) -> None:
        self.whole = whole

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        joined(weights)

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        share = len(self.whole.tokens) // ranks
        mine = slice(rank * share, (rank + 1) * share)
        names = ("prompt_tokens", "tokens", "logprobs", "rewards", "depths")
        parts = {name: getattr(self.whole, name)[mine] for name in names}
        return dataclasses.replace(self.whole, **parts)


if __name__ == "__main__":
    job, whole = (pickle.loads(Path(path).read_bytes()) for path in sys.argv[1:])
    grpo_trainer.train(job, rollouts=OneStep(whole))
