"""What all sides of `tests.bench.grpo` share: the task, its clock, its weights, their accuracy."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from pipeline.generate.chat import load_chat
from pipeline.generate.steps import WATCH_TEMPERATURE, WATCH_TOP_P
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.prompts.entries import load_entry
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.load import load_recipe
from pipeline.recipe.places import recipe_path
from pipeline.recipe.routing import judges, watched_reward
from pipeline.records import Prompt
from pipeline.recurrent.register import register
from rewards.api import Sample
from rewards.forms import RewardFunction
from rewards.registry import resolve

HELD_OUT = 400  # prompts of an accuracy, one answer each, drawn as a run watches
EVALUATED_ROWS = 100  # of one call of `generate`
EVALUATION_THREADS = 2
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A GRPO stage of a shipped recipe, and the stage whose model it starts from."""

    recipe: str
    start: str
    stage: str
    target: float  # held-out accuracy
    steps: int
    every: int  # steps between two accuracies


TASKS = {
    "quickstart": Task(
        recipe="quickstart", start="cold_start", stage="reason", target=0.97, steps=18, every=2
    ),
    "smollm2": Task(
        recipe="smollm2-135m-cpu",
        start="largest_start",
        stage="largest_grpo",
        target=0.95,
        steps=20,
        every=2,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side is told."""

    name: str
    recipe: str  # of the one stage, beginning with the shared cold start
    work: str  # its own folder
    threads: int
    steps: int
    every: int
    overrides: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """The recipe's plan, at this side's threads and steps."""
        (stage,) = load_recipe(self.recipe).stages
        values = {
            f"stages.{stage}.steps": self.steps,
            "hardware.threads_per_rank": self.threads,
            "hardware.threads_per_engine": self.threads,
        }
        texts = [f"{key}={value}" for key, value in values.items()]
        return make_plan(load_recipe(self.recipe, [*texts, *self.overrides]))

    @property
    def resamples(self) -> bool:
        """Whether groups without variance are replaced."""
        (stage,) = self.plan().stages
        assert isinstance(stage.spec, GrpoStage)
        return stage.spec.resample_rounds > 0

    @property
    def without_resampling(self) -> str:
        """The override that replaces none."""
        (stage,) = self.plan().stages
        return f"stages.{stage.name}.resample_rounds=0"

    @property
    def model(self) -> Path:
        """The cold start."""
        return Path(str(load_recipe(self.recipe).model.path))


def prepared(task: Task, cache: Path) -> Path:
    """The recipe of the GRPO stage alone, whose base is the cold start; both are made once."""
    recipe, cold = cache / "bench.yaml", cache / "cold"
    if not recipe.exists():
        command = ["-m", "pipeline", "run", task.recipe, "--to", task.start, "--json"]
        python([*command, "--run-dir", str(cold)], threads=EVALUATION_THREADS)
        others = load_recipe(task.recipe).stages.keys() - {task.stage}
        text: dict[str, Any] = {
            "defaults": str(recipe_path(task.recipe).resolve()),
            "name": f"bench-{task.recipe}",
            "model": {
                "path": str((cold / "stages" / task.start / "model").resolve()),
                "vocabulary": "full",  # it is cut already
            },
            "stages": {
                task.stage: {"init": "base", "watch": None},
                **dict.fromkeys(sorted(others)),
            },
        }
        recipe.write_text(yaml.safe_dump(text, sort_keys=False))
    return recipe


def python(arguments: Sequence[str], *, threads: int) -> str:
    """A Python process's standard output; raises CalledProcessError."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ).stdout


@dataclass(frozen=True)
class Log:
    """When a side had which weights, in `notes.jsonl`; those of every `every`-th step are kept.

    What writing them takes is told beside, so that a clock can leave it out.
    """

    folder: Path
    every: int

    def note(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """`weights` are of after `step` updates."""
        began = time.monotonic()
        if step % self.every == 0:
            copies = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
            save_file(_once(copies), self.folder / f"weights-{step}.safetensors")
        self.mark("weights", began=began, step=step, pause=time.monotonic() - began)

    def mark(self, event: str, *, began: float | None = None, **details: float) -> None:
        """An event of now, or of `began` (the machine's monotonic clock)."""
        at = time.monotonic() if began is None else began
        with (self.folder / "notes.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "at": at, **details}) + "\n")

    def times(self) -> dict[str, float]:
        """Seconds from the first event, without pauses, by event or number of updates."""
        rows = [json.loads(line) for line in (self.folder / "notes.jsonl").read_text().splitlines()]
        rows.sort(key=lambda row: row["at"])
        times: dict[str, float] = {}
        paused = 0.0
        for row in rows:
            name = str(row["step"]) if row["event"] == "weights" else row["event"]
            times[name] = row["at"] - rows[0]["at"] - paused
            paused += row.get("pause", 0.0)
        return times


def _once(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tied tensors under their first name alone, as safetensors wants it."""
    owners: dict[int, str] = {}
    for name, tensor in weights.items():
        owners.setdefault(tensor.data_ptr(), name)
    return {name: weights[name] for name in owners.values()}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A reward of the stage."""

    name: str
    function: RewardFunction
    args: Mapping[str, Any]
    weight: float

    def values(
        self, prompts: Sequence[tuple[str, Prompt]], texts: Sequence[str], ended: Sequence[bool]
    ) -> list[float | None]:
        """Of completions of prompts, each with its rendered text."""
        samples = [
            Sample(
                prompt=shown,
                completion=text,
                gold=prompt.answer,
                golds=prompt.golds,
                columns=prompt.columns,
                finished=end,
            )
            for (shown, prompt), text, end in zip(prompts, texts, ended, strict=True)
        ]
        return [reward.value for reward in self.function(samples, **self.args)]


def judges_of(plan: Plan) -> list[Judge]:
    """The rewards of the plan's stage, called in this process."""
    (stage,) = plan.stages
    assert isinstance(stage.spec, GrpoStage)
    every = []
    for name in stage.spec.reward_names():
        ((_, judge),) = judges(plan.recipe, name)
        every.append(
            Judge(
                name=name,
                function=resolve(judge.use),
                args=judge.args,
                weight=plan.recipe.rewards[name].weight,
            )
        )
    return every


@torch.no_grad()
def accuracies(side: Side) -> dict[int, float]:
    """Held-out accuracy by number of updates, of all weights that a side kept; they are removed.

    Share of HELD_OUT prompts whose answer the watched reward pays in full. Answers are drawn as a
    run draws those that it watches, with the same random numbers for all weights.
    """
    torch.set_num_threads(EVALUATION_THREADS)
    plan = side.plan()
    (stage,) = plan.stages
    assert isinstance(stage.spec, GrpoStage)
    watched = watched_reward(plan.recipe, stage.spec)
    judge = next(judge for judge in judges_of(plan) if judge.name == watched)
    prompts = load_entry(plan.recipe, held_out_entry(plan)).prompts[:HELD_OUT]
    register()
    model: Any = AutoModelForCausalLM.from_pretrained(side.model, dtype=torch.float32).eval()
    right: dict[int, float] = {}
    for file in Path(side.work).glob("weights-*.safetensors"):
        model.load_state_dict(load_file(file), strict=False)
        scores = _scores(model, side.model, prompts, judge, tokens=stage.spec.max_tokens)
        right[int(file.stem.removeprefix("weights-"))] = sum(scores) / len(scores)
        file.unlink()
    return dict(sorted(right.items()))


def held_out_entry(plan: Plan) -> str:
    """The prompts entry that nothing is learned from: what the shipped recipe's stage watches."""
    (stage,) = plan.stages
    shipped = load_recipe(plan.recipe.name.removeprefix("bench-")).stages[stage.name]
    assert isinstance(shipped, GrpoStage)
    assert shipped.watch is not None
    return shipped.watch.prompts


def _scores(
    model: Any, folder: Path, prompts: Sequence[Prompt], judge: Judge, *, tokens: int
) -> list[bool]:
    chat = load_chat(folder)
    pad = chat.tokenizer.pad_token_id
    pad = chat.ends[0] if pad is None else pad
    scores: list[bool] = []
    torch.manual_seed(0)
    for first in range(0, len(prompts), EVALUATED_ROWS):
        some = prompts[first : first + EVALUATED_ROWS]
        shown = [chat.render(prompt.question, (), prompt.context) for prompt in some]
        ids = chat.prompts_ids(shown)
        width = max(map(len, ids))
        padded = torch.tensor([[pad] * (width - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
        answers = model.generate(
            input_ids=padded,
            attention_mask=mask,
            do_sample=True,
            temperature=WATCH_TEMPERATURE,
            top_p=WATCH_TOP_P,
            top_k=0,
            max_new_tokens=tokens,
            eos_token_id=list(chat.ends),
            pad_token_id=pad,
        )[:, width:].tolist()
        texts, ended = zip(*(completion(chat, row) for row in answers), strict=True)
        values = judge.values(list(zip(shown, some, strict=True)), texts, ended)
        scores += [value is not None and value >= 1.0 for value in values]
    return scores


def completion(chat: Any, tokens: Sequence[int]) -> tuple[str, bool]:
    """The text of generated tokens up to their first end, and whether they have one."""
    end = next((i for i, token in enumerate(tokens) if token in chat.ends), None)
    text = chat.tokenizer.decode(list(tokens[:end]), skip_special_tokens=False)
    return text, end is not None
