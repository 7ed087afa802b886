"""Tiny random models of families that people train, each from plan to export, from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
)

from pipeline.watch.report import metrics_of

SIZES: dict[str, Any] = {
    "vocab_size": 288,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}
CHATML = ("<|im_start|>", "<|im_end|>\n", "assistant", "<|im_end|>", "<|endoftext|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>\n", "model", "<end_of_turn>", "<eos>")
LLAMA = ("<|start_header_id|>", "<|eot_id|>", "assistant", "<|eot_id|>", "<|end_of_text|>")
PHI = ("<|user|>", "<|end|>\n", "<|assistant|>", "<|end|>", "<|endoftext|>")
MISTRAL = ("[INST]", "</s>", "[/INST]", "</s>", "<unk>")
FAMILIES: dict[str, tuple[Any, tuple[str, ...], str | None]] = {
    "qwen2": (Qwen2Config(**SIZES), CHATML, None),
    "qwen3": (Qwen3Config(**SIZES, head_dim=32), CHATML, None),
    "llama": (LlamaConfig(**SIZES), LLAMA, "<|begin_of_text|>"),
    "mistral": (MistralConfig(**SIZES, sliding_window=64, head_dim=32), MISTRAL, "<s>"),
    "gemma2": (Gemma2Config(**SIZES, head_dim=32, sliding_window=64), GEMMA, "<bos>"),
    "gemma3": (Gemma3TextConfig(**SIZES, head_dim=32, sliding_window=64), GEMMA, "<bos>"),
    "phi3": (Phi3Config(**SIZES, pad_token_id=None), PHI, None),
    "glm4": (Glm4Config(**SIZES, head_dim=32), PHI, None),
    "mixtral": (MixtralConfig(**SIZES, num_local_experts=4), MISTRAL, "<s>"),
    "qwen2_moe": (
        Qwen2MoeConfig(
            **SIZES,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            shared_expert_intermediate_size=32,
        ),
        CHATML,
        None,
    ),
    "gpt2": (
        GPT2Config(vocab_size=288, n_embd=64, n_layer=2, n_head=2, n_positions=512),
        CHATML,
        None,
    ),
}
RECIPE = """
name: family
model: {{path: {model}}}
prompts:
  train: {{task: echo, size: 32, difficulty: [1, 3]}}
  held_out: {{task: echo, size: 8, split: test, difficulty: [1, 3]}}
rewards:
  length: {{use: "builtin:length", args: {{buffer_tokens: 8}}}}
  answer: {{use: "builtin:exact_match"}}
stages:
  cold: {{kind: sft, rows: train.answer, max_tokens: 96, batch_rows: 8, micro_batch_rows: 4}}
  reason: {{kind: grpo, init: cold, prompts: train, rewards: [length], steps: 2,
    prompts_per_step: 4, samples_per_prompt: 4, micro_batch_rows: 8, max_tokens: 16, lr: 1e-4}}
  check: {{kind: evaluate, models: [base, reason], prompts: held_out, reward: answer,
    samples_per_prompt: 1, max_tokens: 16}}
  export: {{kind: export, model: reason}}
"""


def tokenizer(turns: tuple[str, ...], start: str | None) -> PreTrainedTokenizerFast:
    """Bytes, the family's control tokens, and a template of its shape."""
    opening, closing, answering, end, pad = turns
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    names = dict.fromkeys((pad, end, opening, closing.strip(), start or pad))
    if answering.startswith(("<", "[")):
        names[answering] = None
    inner.add_special_tokens([AddedToken(name, special=True) for name in names])
    if start is not None:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, inner.token_to_id(start))]
        )
    said = answering if answering.startswith(("<", "[")) else f"{opening}{answering}\\n"
    role = "" if answering.startswith(("<", "[")) else "{{ m['role'] }}\\n"
    text = (
        f"{start or ''}{{% for m in messages %}}{{% if m['role'] == 'assistant' %}}{said}"
        f"{{% else %}}{opening}{role}{{% endif %}}{{{{ m['content'] }}}}{closing}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{said}{{% endif %}}"
    ).replace("\\n", "\n")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=end, pad_token=pad, bos_token=start, chat_template=text
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_from_plan_to_export(family: str, tmp_path: Path) -> None:
    config, turns, start = FAMILIES[family]
    words = tokenizer(turns, start)
    config.eos_token_id, config.pad_token_id = words.eos_token_id, words.pad_token_id
    config.bos_token_id = words.bos_token_id
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    (tmp_path / "family.yaml").write_text(RECIPE.format(model=tmp_path / "model"))

    def stepwell(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline", *arguments, "--json"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
        return json.loads(done.stdout)

    stepwell("plan", "family.yaml")
    document = stepwell("run", "family.yaml")
    assert [row["model"] for row in document["results"]] == ["base", "reason"]
    rows = metrics_of(tmp_path / "runs/family", "reason")
    assert rows
    assert all(row["logprob_gap"] < 1e-3 for row in rows)
    exported = tmp_path / stepwell("export", "runs/family")["model"]
    trained = tmp_path / "runs/family/stages/reason/model"
    said = []
    for folder in (exported, trained):
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        prompt = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            [{"role": "user", "content": "ab"}], add_generation_prompt=True, return_tensors="pt"
        )
        out = again.generate(**prompt, do_sample=False, max_new_tokens=8)
        said.append(out[0].tolist())
    assert said[0] == said[1]
