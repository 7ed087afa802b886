"""A harvest keeps the tag of thinking on whichever side of the prompt's end a template has it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.generate.chat import load_chat, shown
from pipeline.recipe.reject_stage import RejectStage
from pipeline.recipe.stage_base import Input
from pipeline.records import Prompt, Rollout, Scored
from pipeline.stages import reject
from pipeline.stages.training_rows import write_rows

MakeFamily = Callable[..., Path]
QUESTION = "1+1 <|im_end|>?"
SAID = {"opens_think": "so</think>2", "special_think": "<think>so</think>2"}


BEFORE = ({"role": "user", "content": "Ready?"}, {"role": "assistant", "content": "Yes."})


def harvested(model: Path, text: str, folder: Path) -> Path:
    """The folder of a harvest whose only row the model said."""
    rollout = Rollout(
        prompt_id="p", sample=0, seed=0, prompt_tokens=(1,), tokens=(2,), logprobs=(0.0,),
        stop="eos", weight_version=0,
    )  # fmt: skip
    scored = Scored(rollout=rollout, text=text, reward=1.0, components={}, verdicts={})
    (folder / "model").mkdir(parents=True)
    for file in model.iterdir():
        (folder / "model" / file.name).write_bytes(file.read_bytes())
    spec = RejectStage.model_construct(kind="reject", policy="policy", prompts="train")
    policy = SimpleNamespace(path=folder, manifest=SimpleNamespace(fingerprint="f" * 32))
    ctx: Any = SimpleNamespace(out=folder, artifacts={"policy": policy}, plan=recipe())
    plan: Any = SimpleNamespace(spec=spec)
    reject._write_rows(ctx, plan, [scored], [Prompt(id="p", question=QUESTION, context=BEFORE)])
    return folder


def recipe() -> Any:
    return SimpleNamespace(
        recipe=SimpleNamespace(prompts={"train": SimpleNamespace(preface=())}), stages=()
    )


@pytest.mark.parametrize("policy", SAID)
@pytest.mark.parametrize("student", SAID)
def test_one_tag_in_every_row(
    make_family: MakeFamily, tmp_path: Path, policy: str, student: str
) -> None:
    harvest = harvested(make_family(policy), SAID[policy], tmp_path / "harvest")
    work = tmp_path / "work"
    work.mkdir()
    ctx: Any = SimpleNamespace(
        work=work, artifacts={"harvest": SimpleNamespace(path=harvest)}, plan=recipe()
    )
    plan: Any = SimpleNamespace(name="refit", inputs=(Input(role="rows", name="harvest"),))
    model = make_family(student)
    (row,) = pq.read_table(write_rows(ctx, plan, model=model)).to_pylist()
    whole = shown(row["prompt"]) + row["completion"]
    assert whole.count("<think>") == whole.count("</think>") == 1
    assert whole.index("Ready?") < whole.index("Yes.") < whole.index(QUESTION)
    chat = load_chat(model)
    (completion,) = chat.completions_ids([row["completion"]])
    ids = [*chat.prompt_ids(row["prompt"]), *completion]
    assert ids.count(chat.tokenizer.convert_tokens_to_ids("<think>")) == 1
