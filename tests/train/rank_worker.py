"""One rank of a training, as a script: `rank_worker.py JOB.pickle ROWS`."""

import pickle
import sys
from pathlib import Path

from pipeline.train import sft_trainer

if __name__ == "__main__":
    sft_trainer.train(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
