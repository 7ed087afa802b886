"""Run folders with evaluations, written as runs write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import publish
from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored

Marks = Sequence[Sequence[float | None]]
"""By prompt the values of its samples, as the evaluation's reward gave them."""


def evaluated_run(
    folder: Path,
    models: Mapping[str, Marks],
    *,
    questions: Sequence[str] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Path:
    """A run whose stage `report` evaluated models on `held_out`; `questions` name its prompts."""
    asked = questions or [f"{i}+1?" for i in range(len(next(iter(models.values()))))]
    prompts = [Prompt(id=f"id-{text}", question=text, answer="1") for text in asked]
    draft = folder.parent / "draft"
    draft.mkdir(parents=True)
    write_prompts(prompts, draft / "prompts.parquet")
    publish(
        draft, folder / "inputs" / "held_out", kind="prompts", stage="held_out", fingerprint="p"
    )
    draft.mkdir()
    rows = []
    for model, marks in models.items():
        scored = [
            answer(prompt.id, sample, value, model=model)
            for prompt, values in zip(prompts, marks, strict=True)
            for sample, value in enumerate(values)
        ]
        write_scored(scored, draft / f"{model}.parquet")
        values = [value for row in marks for value in row if value is not None]
        mean = sum(value >= 1 for value in values) / len(values)
        rows.append(
            {
                "model": model,
                "prompts": "held_out",
                "accuracy": mean,
                "ci_low": max(0.0, mean - 0.1),
                "ci_high": min(1.0, mean + 0.1),
                "problems": len(prompts),
            }
        )
    publish(
        draft,
        folder / "stages" / "report",
        kind="report",
        stage="report",
        fingerprint="r",
        inputs={"prompts:held_out": "p"},
        info={"results": rows},
    )
    stages = {"report": {"kind": "evaluate", "reward": "answer", "temperature": 0.6}}
    content = {"name": folder.name, "seed": 7, "stages": stages, **(recipe or {})}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "results.json").write_text(json.dumps(rows))
    return folder


def answer(prompt_id: str, sample: int, value: float | None, *, model: str) -> Scored:
    """A sample of an evaluation."""
    rollout = Rollout(
        prompt_id=prompt_id,
        sample=sample,
        seed=sample,
        prompt_tokens=(1, 2),
        tokens=(3, 4),
        logprobs=(-0.5, -0.25),
        stop="eos",
        weight_version=0,
    )
    return Scored(
        rollout=rollout,
        text=f"<think>by {model}</think>{value}</script><b>",
        reward=value,
        components={"answer": value},
        verdicts={"answer": "correct" if value and value >= 1 else "wrong"},
    )
