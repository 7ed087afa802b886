"""One rank of GRPO on rollouts that the step decides: `fixed_rollouts_worker.py JOB.pickle _`."""

import pickle
import sys
from pathlib import Path

from pipeline.train import grpo_trainer
from tests.train.test_grpo_trainer import FixedRollouts

if __name__ == "__main__":
    job = pickle.loads(Path(sys.argv[1]).read_bytes())
    grpo_trainer.train(job, rollouts=FixedRollouts(job.model))
