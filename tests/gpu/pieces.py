"""The tests that need a GPU, piece by piece: `python -m tests.gpu.pieces [PIECE ...]`.

Each piece runs in a process of its own and needs only the packages named beside it, so that a bare
machine with a GPU can run what it has wheels for. Without names all are run. With `--list` nothing
is. `make test-gpu` runs them all where everything is installed (`stepwell[gpu,dev]`).
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
ENGINE = ("pytest", "torch", "transformers", "tokenizers", "safetensors", "pydantic", "vllm")
TRAINER = (*ENGINE, "trl", "peft", "accelerate", "datasets", "pyarrow")
EVERYTHING = (*TRAINER, "ray", "deepspeed", "omegaconf", "typer", "sympy", "math_verify", "rich")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tests of one file that are run together."""

    file: str
    proves: str
    packages: Sequence[str]
    gpus: int = 1
    only: str = ""

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def command(self) -> list[str]:
        """Its pytest; the conftest of all other tests, which wants more packages, is left out."""
        chosen = ["-k", self.only] if self.only else []
        options = ["-m", "gpu", "-rs", "-s", "-p", "no:cacheprovider", f"--confcutdir={FOLDER}"]
        return [sys.executable, "-m", "pytest", *options, *chosen, str(FOLDER / self.file)]


PIECES = {
    "engine": Piece(
        file="test_engine.py",
        proves="vLLM's log-probabilities are the model's, in float32 and bfloat16; seeds repeat",
        packages=ENGINE,
    ),
    "depths": Piece(
        file="test_depths.py",
        proves="vLLM's runner for GPUs runs each token of a recurrent model at its depth",
        packages=ENGINE,
    ),
    "sleep": Piece(
        file="test_sleep.py",
        proves="a sleeping engine gives its memory back and wakes with the same tokens",
        packages=ENGINE,
    ),
    "ipc": Piece(
        file="test_transfer.py",
        only="cuda_ipc",
        proves="weights reach an engine on the trainer's GPU by CUDA IPC",
        packages=(*ENGINE, "ray", "peft"),
    ),
    "nccl": Piece(
        file="test_transfer.py",
        only="nccl",
        proves="weights reach an engine on another GPU by NCCL",
        packages=(*ENGINE, "ray", "peft"),
        gpus=2,
    ),
    "memory": Piece(
        file="test_memory.py",
        proves="a trainer's peak is within 15 % of what plan says",
        packages=TRAINER,
    ),
    "run": Piece(
        file="test_run.py",
        proves="the quickstart's GRPO learns on one shared GPU, and on two",
        packages=EVERYTHING,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="PIECE", help=", ".join(PIECES))
    parser.add_argument("--list", action="store_true", help="what each proves and needs")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - PIECES.keys():
        parser.error(f"no piece {', '.join(sorted(unknown))}; there are {', '.join(PIECES)}")
    failed = 0
    for name in arguments.names or PIECES:
        piece = PIECES[name]
        print(f"{name}: {piece.proves}", flush=True)
        if arguments.list:
            print(f"  {piece.gpus} GPU(s); {' '.join(piece.packages)}")
        elif piece.missing:
            print(f"  left out: {', '.join(piece.missing)} not installed", flush=True)
        else:
            environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(piece.command(), cwd=ROOT, env=environment)
            failed += done.returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
