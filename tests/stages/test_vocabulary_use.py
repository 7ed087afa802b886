"""The tokens of a recipe's texts stay; what trains and samples encodes them as with all tokens."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pipeline.errors import RunFailed
from pipeline.generate.chat import load_chat
from pipeline.models import model_calls
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.load import load_recipe
from pipeline.stages import export, vocabulary_use
from pipeline.stages.context import RunContext
from pipeline.stages.run_folder import RunFolder
from pipeline.stages.run_inputs import run_inputs
from pipeline.train.token_rows import token_rows
from tests.models.tokenizer_kinds import SPECIALS, texts, tokenizer

RECIPE = """
name: r
model: {{path: {model}, vocabulary: pruned}}
prompts:
  train: {{file: train.jsonl, system: "Answer in a word."}}
  talk: {{file: talk.jsonl}}
rewards: {{answer: {{use: "builtin:exact_match"}}}}
stages:
  cold: {{kind: sft, rows: [train.answer, talk.messages], max_tokens: 512}}
  reason: {{kind: grpo, init: cold, prompts: train, rewards: [answer], steps: 1, max_tokens: 16}}
  out: {{kind: export, model: base}}
"""
LINES = texts()


@pytest.fixture
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    words = tokenizer(request.param)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_attention_heads=1,
        intermediate_size=32,
        num_hidden_layers=1,
        eos_token_id=words.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def planned(model: Path) -> Plan:
    """Twelve problems with a guarded control token and several golds, and four conversations."""
    folder = model.parent
    rows = [{"question": f"{LINES[i]} {SPECIALS[1]}", "answer": LINES[30 + i]} for i in range(12)]
    talks = [
        [
            {"role": role, "content": LINES[60 + 4 * i + turn]}
            for turn, role in enumerate(("user", "assistant") * 2)
        ]
        for i in range(4)
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "talk.jsonl").write_text("\n".join(json.dumps({"messages": t}) for t in talks))
    (folder / "r.yaml").write_text(RECIPE.format(model=model))
    return make_plan(load_recipe(str(folder / "r.yaml")))


class Here:
    """A cluster that calls functions in this process."""

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords)


def loaded(plan: Plan, folder: Path) -> tuple[dict[str, Any], list[str]]:
    log: list[str] = []
    console: Any = SimpleNamespace(log=log.append)
    cluster: Any = Here()
    return dict(
        run_inputs(plan, plan.stages, RunFolder(folder), cluster=cluster, console=console)
    ), log


@pytest.mark.parametrize("model", ["gpt2", "sentencepiece", "unigram"], indirect=True)
def test_stages_encode_the_recipes_texts_as_with_all_tokens(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_use, "MARGIN_TOKENS", 20)
    plan = planned(model)
    artifacts, log = loaded(plan, tmp_path / "run")
    info = artifacts["base"].manifest.info
    base = artifacts["base"].path
    words = AutoTokenizer.from_pretrained(base / "model")
    assert info["tokens"] == len(words) < info["of_tokens"] == len(tokenizer_of(model))
    assert any("the base model's vocabulary: pruned to" in line for line in log)
    assert sorted(path.name for path in base.iterdir()) == ["manifest.json", "model", "vocabulary"]
    full, few = load_chat(model), load_chat(base / "model")
    question = f"{LINES[3]} {SPECIALS[1]}"
    rows = [
        (full.render(question, [{"role": "system", "content": "Answer in a word."}]), LINES[33])
    ]
    (before,), (after,) = (
        token_rows(chat, [r[0] for r in rows], [r[1] for r in rows], completion_only=True)
        for chat in (full, few)
    )
    assert texts_of(words, after.input_ids) == texts_of(tokenizer_of(model), before.input_ids)
    assert few.turn_end == full.turn_end
    assert loaded(plan, tmp_path / "run")[1] == []


@pytest.mark.parametrize("model", ["gpt2"], indirect=True)
def test_texts_that_come_out_otherwise_end_the_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune = model_calls.prune

    def wrong(full: Path, out: Path, *rest: Any, used: Any, **keywords: Any) -> Any:
        return prune(full, out, *rest, used=used[:-60], **keywords)

    monkeypatch.setattr(vocabulary_use, "MARGIN_TOKENS", 0)
    monkeypatch.setattr(model_calls, "prune", wrong)
    with pytest.raises(RunFailed, match="the recipe's texts are other tokens"):
        loaded(planned(model), tmp_path / "run")


@pytest.mark.parametrize("model", ["gpt2"], indirect=True)
def test_an_export_has_the_full_vocabulary_and_its_card_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_use, "MARGIN_TOKENS", 20)
    plan = planned(model)
    artifacts, _ = loaded(plan, tmp_path / "run")
    console: Any = SimpleNamespace()
    cluster: Any = Here()
    (tmp_path / "out").mkdir()
    context = RunContext(
        plan=plan,
        run_dir=tmp_path / "run",
        work=tmp_path,
        out=tmp_path / "out",
        artifacts=artifacts,
        cluster=cluster,
        console=console,
        stopping=lambda: False,
    )
    (stage,) = [stage for stage in plan.stages if stage.name == "out"]
    export.run(stage, context)
    out = tmp_path / "out" / "model"
    before, after = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (model, out))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == tokenizer_of(model).get_vocab()
    card = (out / "README.md").read_text()
    assert "## Vocabulary" in card
    assert "the others are the base model's" in card


def tokenizer_of(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


def texts_of(words: Any, ids: list[int]) -> list[str]:
    return words.convert_ids_to_tokens(ids)
