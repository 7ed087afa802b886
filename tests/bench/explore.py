"""What exploration in latent space gives: `python -m tests.bench.explore MODEL TASK... [--json]`.

A recurrent model on problems of our tasks, in the native engine in this process, one thread. Train
split problems teach the head that judges paths (at fixed depths, by whether answers were right),
and others of that split choose each setting's noise. On test split problems, the same for all
methods and with the same draws: one path; several, judged by that head, by the next token's entropy
and by a head that nobody trained (chance, at the head's noise); the majority vote of several
answers, at temperature 1. Set OMP_NUM_THREADS=1 and OMP_WAIT_POLICY=PASSIVE. Minutes a task.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.depth.labels.right_already import judge
from pipeline.depth.model.head import fresh
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.generate.chat import Chat, load_chat
from pipeline.generate.native_engine import NativeEngine
from pipeline.measure.accuracy import majority_vote
from pipeline.prompts.tasks import Problem, generate
from pipeline.records import Request, Rollout, Scored, write_scored
from pipeline.recurrent.explore import RIGHT_HEAD, Exploration
from pipeline.recurrent.request import DepthRequest
from rewards.api import Sample
from rewards.text_format import exact_match, reasoning_and_answer
from tests.bench.explore_figures import chosen_noise, figures, nearest, table
from tests.bench.models import settings

NOISES = (0.02, 0.05, 0.1, 0.2, 0.4)
VOTES = (2, 3, 4, 5, 6, 8)
STEPS, RATE, WIDTH = 400, 2e-3, 64  # of the head: the depth stage's
SEQUENCES = 128


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a run asks."""

    depth: DepthRequest
    max_tokens: int
    difficulty: tuple[int, int]
    distractors: tuple[int, int]

    def problems(self, task: str, size: int, *, split: Any, seed: int) -> list[Problem]:
        return generate(
            task,
            size=size,
            split=split,
            seed=seed,
            difficulty=self.difficulty,
            distractors=self.distractors,
        )


class Answerer:
    """A model's engine, and what its answers are worth."""

    def __init__(self, model: Path, asked: Asked) -> None:
        self.chat: Chat = load_chat(model)
        self.engine = NativeEngine(model, settings(sequences=SEQUENCES, tokens=512), version=0)
        self.asked = asked

    def rollouts(
        self, problems: Sequence[Problem], *, samples: int = 1, **changes: Any
    ) -> list[list[Rollout]]:
        """`samples` completions of each problem; `changes` are a request's."""
        requests = [
            Request(
                prompt_id=str(number),
                prompt_tokens=self.chat.prompt_ids(self.chat.render(problem.question, ())),
                sample=sample,
                seed=1000 * number + sample,
                max_tokens=self.asked.max_tokens,
                temperature=1.0,
                depth=self.asked.depth,
            )
            for number, problem in enumerate(problems)
            for sample in range(samples)
        ]
        requests = [replace(request, **changes) for request in requests]
        runs = {(r.prompt_id, r.sample): r for r in self.engine.generate(requests, version=0)}
        return [[runs[str(n), s] for s in range(samples)] for n in range(len(problems))]

    def judged(self, rollout: Rollout, problem: Problem) -> tuple[str, bool]:
        """The answer, and whether it is right."""
        sample = Sample(
            prompt="", completion=self.chat.completion_text(rollout), gold=problem.answer
        )
        return reasoning_and_answer(sample)[1].strip(), exact_match(sample).value == 1.0

    def right(self, runs: Sequence[Sequence[Rollout]], problems: Sequence[Problem]) -> list[bool]:
        """Of the first completion of each."""
        return [self.judged(run[0], p)[1] for run, p in zip(runs, problems, strict=True)]


def with_judge(model: Path, folder: Path, asked: Asked, tasks: Sequence[str], size: int) -> Path:
    """A copy of the model with a head that learnt from answers at every fixed depth."""
    shutil.copytree(model, folder)
    answerer = Answerer(model, asked)
    scored = []
    for task in tasks:
        problems = asked.problems(task, size, split="train", seed=1)
        for depth in range(1, asked.depth.depth + 1):
            runs = answerer.rollouts(problems, depth=replace(asked.depth, depth=depth))
            for number, right in enumerate(answerer.right(runs, problems)):
                run = replace(runs[number][0], prompt_id=f"{task}-{number}")
                scored.append(
                    Scored(rollout=run, text="", reward=float(right), components={}, verdicts={})
                )
    write_scored(scored, folder / "rollouts.parquet")
    job = HeadJob(
        model=model,
        out=folder,
        seed=1,
        threads=1,
        device="cpu",
        max_depth=asked.depth.depth,
        prompt_depth=asked.depth.prefill_depth,
        segment=1,
        batch_rows=32,
    )
    judge(job, folder / "rollouts.parquet", steps=STEPS, lr=RATE, width=WIDTH)
    return folder


def with_chance(model: Path, folder: Path, answerer: Answerer) -> Path:
    """A copy whose head nobody trained."""
    shutil.copytree(model, folder)
    (folder / RIGHT_HEAD).parent.mkdir()
    head = fresh(answerer.engine.model.config, width=WIDTH, seed=2)
    save_file(head.state_dict(), folder / RIGHT_HEAD)
    return folder


class Trial:
    """The methods on one task: noise is chosen on some problems, and figures are of others."""

    def __init__(self, answerers: Mapping[str, Answerer], task: str, sizes: Any) -> None:
        self.answerers, self.sizes = answerers, sizes
        self.plain = answerers["entropy"]
        asked = self.plain.asked
        self.choose = asked.problems(task, sizes.choose, split="train", seed=2)
        self.held_out = asked.problems(task, sizes.problems, split="test", seed=3)

    def measure(self) -> dict[str, dict[str, Any]]:
        """Every method's figures, by temperature; votes are drawn at temperature 1."""
        drawn = self.plain.rollouts(self.held_out, samples=max(VOTES), temperature=1.0)
        before = self.plain.right(drawn, self.held_out)
        votes = {f"vote of {k}": self._vote(drawn, k, before) for k in VOTES}
        results: dict[str, dict[str, Any]] = {}
        for temperature in self.sizes.temperature:
            for name, row in self._paths(temperature).items():
                row["nearest_vote"] = nearest(votes, row["mflops"])
                results[f"{name}, temperature {temperature:g}"] = row
        return results | votes

    def _paths(self, temperature: float) -> dict[str, dict[str, Any]]:
        one = self.plain.rollouts(self.held_out, temperature=temperature)
        before = self.plain.right(one, self.held_out)
        rows = {"one path": figures(before, [run[0].flops for run in one], before)}
        for paths in self.sizes.paths:
            tried = {
                name: {
                    noise: self._explored(name, self.choose, paths, noise, temperature)[0]
                    for noise in NOISES
                }
                for name in ("head", "entropy")
            }
            for name, rights in {**tried, "chance": tried["head"]}.items():
                noise = chosen_noise(rights)
                right, flops = self._explored(name, self.held_out, paths, noise, temperature)
                shares = {noise: sum(some) / len(some) for noise, some in rights.items()}
                more: dict[str, Any] = {"noise": noise, "tried": shares}
                rows[f"{paths} paths, {name}"] = figures(right, flops, before, **more)
        return rows

    def _explored(
        self, name: str, problems: Sequence[Problem], paths: int, noise: float, temperature: float
    ) -> tuple[list[bool], list[float]]:
        """What is right, and FLOPs."""
        explore = Exploration(paths=paths, noise=noise, keep=self.sizes.keep)
        answerer = self.answerers[name]
        runs = answerer.rollouts(problems, explore=explore, temperature=temperature)
        return answerer.right(runs, problems), [run[0].flops for run in runs]

    def _vote(
        self, drawn: Sequence[Sequence[Rollout]], k: int, before: Sequence[bool]
    ) -> dict[str, Any]:
        shares = []
        for runs, problem in zip(drawn, self.held_out, strict=True):
            judged = [self.plain.judged(run, problem) for run in runs[:k]]
            texts, right = zip(*judged, strict=True)
            shares.append(majority_vote([text or None for text in texts], right))
        return figures(shares, [sum(run.flops for run in runs[:k]) for runs in drawn], before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a recurrent model")
    parser.add_argument("task", nargs="+", help="of pipeline/prompts/tasks.py")
    parser.add_argument("--depth", type=int, default=8, help="of every token of an answer")
    parser.add_argument("--prompt-depth", type=int, default=1)
    parser.add_argument("--difficulty", type=int, nargs=2, default=(3, 10))
    parser.add_argument("--distractors", type=int, nargs=2, default=(0, 3))
    parser.add_argument("--temperature", type=float, nargs="+", default=(1.0, 0.0))
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--paths", type=int, nargs="+", default=(4,))
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--problems", type=int, default=800, help="held out, that are reported")
    parser.add_argument("--choose", type=int, default=400, help="that noise is chosen on")
    parser.add_argument("--train", type=int, default=400, help="that the head learns from")
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")
    given = parser.parse_args()
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    torch.set_num_threads(1)
    asked = Asked(
        depth=DepthRequest(depth=given.depth, prompt_depth=given.prompt_depth),
        max_tokens=given.max_tokens,
        difficulty=tuple(given.difficulty),
        distractors=tuple(given.distractors),
    )
    with tempfile.TemporaryDirectory() as place:
        answerers = {"entropy": Answerer(given.model, asked)}
        folder = with_judge(given.model, Path(place) / "head", asked, given.task, given.train)
        answerers["head"] = Answerer(folder, asked)
        folder = with_chance(given.model, Path(place) / "chance", answerers["entropy"])
        answerers["chance"] = Answerer(folder, asked)
        found = {task: Trial(answerers, task, given).measure() for task in given.task}
    text = json.dumps(found, indent=1) if given.json else table(found)
    os.write(answer, f"{text}\n".encode())


if __name__ == "__main__":
    main()
