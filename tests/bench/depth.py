"""The speed of depths per token: `python -m tests.bench.depth --json`.

Everything is measured side by side in one run: how much of what shallow tokens save in FLOPs each
engine saves in time, what a dense model pays for the plugin, and tokens per second of the native
engine, vLLM and `model.generate` on the shipped model and on converted SmolLM2. Minutes on two
quiet cores; set OMP_NUM_THREADS=1 and OMP_WAIT_POLICY=PASSIVE.
"""

import argparse
import json
import os
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each")
    parser.add_argument("--no-smollm2", action="store_true", help="leave the larger model out")
    asked = parser.parse_args()
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    from tests.bench.shares import measure  # heavy, and prints while it loads

    found = measure(rounds=asked.rounds, smollm2=not asked.no_smollm2)
    text = json.dumps(found, indent=1) if asked.json else _lines(found)
    os.write(answer, f"{text}\n".encode())


def _lines(found: dict[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in found.items())


if __name__ == "__main__":
    sys.exit(main())
