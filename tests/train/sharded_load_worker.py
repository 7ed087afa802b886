"""One rank that loads a model sharded, as a script: `sharded_load_worker.py JOB.pickle _`.

It loads as trainers do, and looks at its own memory (`RssAnon`: what is not a file's) meanwhile.
"""

import pickle
import re
import sys
import threading
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, TrainingArguments

from pipeline.train.arguments import trainer_process
from pipeline.train.sharding import sharded_arguments

EVERY_S = 0.005


def own_memory() -> int:
    """Bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def peak_while(stopped: threading.Event, seen: list[int]) -> None:
    while not stopped.wait(EVERY_S):
        seen.append(own_memory())


if __name__ == "__main__":
    job = pickle.loads(Path(sys.argv[1]).read_bytes())
    with trainer_process(job):
        arguments = TrainingArguments(
            output_dir=str(job.work),
            per_device_train_batch_size=1,
            report_to=[],
            **sharded_arguments(job.sharding, device=job.device, dtype=job.dtype),
        )
        before, seen, stopped = own_memory(), [], threading.Event()
        watch = threading.Thread(target=peak_while, args=(stopped, seen), daemon=True)
        watch.start()
        model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
        stopped.set()
        watch.join()
        shards = [vars(parameter) for parameter in model.parameters()]
        whole = 4 * sum(shard["ds_numel"] for shard in shards)
        own = 4 * sum(shard["ds_tensor"].numel() for shard in shards)
        peak = max(seen) - before
        print(f"whole {whole:,} own {own:,} peak {peak:,} bytes, {arguments.deepspeed}")
        assert own < 0.51 * whole
        assert own < peak < 0.8 * whole, "held more than its shards and a few tensors"
