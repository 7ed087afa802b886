"""A model with fewer tokens says what the whole one says, and gets its vocabulary back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from pipeline.models.model_folder import ModelError
from pipeline.models.pruned_model import prune, restore
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.convert import passes, tensor_files
from pipeline.recurrent.convert.tensor_files import INDEX, SINGLE
from pipeline.recurrent.model import RecurrentForCausalLM
from tests.models.tokenizer_kinds import texts, tokenizer

SHAPE = {
    "hidden_size": 32,
    "num_attention_heads": 1,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "tie_word_embeddings": False,
}


def model_of(kind: str, **tokens: int) -> PreTrainedModel:
    torch.manual_seed(1)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=1, **tokens))
    if kind == "bias":
        model = PhiForCausalLM(PhiConfig(**SHAPE, **tokens))
        torch.nn.init.normal_(model.lm_head.bias)
        return model
    if kind == "recurrent":
        sizes = {k: v for k, v in SHAPE.items() if k != "num_hidden_layers"}
        return RecurrentForCausalLM(RecurrentConfig(core_layers=1, **sizes, **tokens))
    return LlamaForCausalLM(
        LlamaConfig(**{**SHAPE, "tie_word_embeddings": kind == "tied"}, **tokens)
    )


def written(kind: str, vocabulary: str, folder: Path) -> Path:
    """A model folder with more rows than tokens."""
    words = tokenizer(vocabulary)
    tokens = {"eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    model_of(kind, vocab_size=len(words) + 7, bos_token_id=5, **tokens).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def pruned(full: Path, folder: Path) -> list[int]:
    words = AutoTokenizer.from_pretrained(full)
    rows = words(texts()[:40])["input_ids"]
    sample = [(rows[7][:3], rows[7][3:9]), (rows[0], [])]
    used = {id_ for row in rows for id_ in row}
    info = prune(full, folder / "few", folder / "rest", used=used, margin=9, sample=sample)
    assert info["tokens"] == len(info["kept"]) < info["of_tokens"] == len(words) + 7
    assert 0 < info["lost_probability"] <= info["lost_probability_max"] < 1
    return info["kept"]


@pytest.mark.parametrize(
    ("kind", "vocabulary"),
    [
        ("tied", "gpt2"),
        ("untied", "sentencepiece"),
        ("bias", "llama3"),
        ("gpt2", "unigram"),
        ("recurrent", "unigram_bytes"),
    ],
)
def test_logits_stay_and_the_vocabulary_comes_back(
    kind: str, vocabulary: str, tmp_path: Path
) -> None:
    full = written(kind, vocabulary, tmp_path / "full")
    kept = pruned(full, tmp_path)
    before, few = (AutoModelForCausalLM.from_pretrained(f).eval() for f in (full, tmp_path / "few"))
    ids = torch.randint(len(kept), (1, 24), generator=torch.Generator().manual_seed(2))
    assert torch.equal(
        few(input_ids=ids).logits, before(input_ids=torch.tensor(kept)[ids]).logits[..., kept]
    )
    named = {k: v for k, v in few.config.to_dict().items() if k.endswith("_token_id") and v}
    original = {k: v for k, v in before.config.to_dict().items() if k.endswith("_token_id") and v}
    assert {k: kept[v] for k, v in named.items()} == original
    with torch.no_grad():
        few.get_input_embeddings().weight.add_(1)
    few.save_pretrained(tmp_path / "few")
    restore(tmp_path / "few", tmp_path / "rest", tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    expected = before.state_dict()
    for name, tensor in again.state_dict().items():
        rows = expected[name].clone()
        if "embed" in name or "wte" in name or (kind in ("tied", "gpt2") and "lm_head" in name):
            rows[kept] += 1
        assert torch.equal(tensor, rows), name
    whole = AutoTokenizer.from_pretrained(full)
    words = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert words.get_vocab() == whole.get_vocab()
    assert words.chat_template == whole.chat_template
    assert again.config.eos_token_id == before.config.eos_token_id


def test_rows_come_from_whatever_files_and_names_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPT-2's own checkpoint has no `transformer.` before its names."""
    full = written("gpt2", "gpt2", tmp_path / "full")
    pruned(full, tmp_path / "one")
    tensors = load_file(full / SINGLE)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, full / SINGLE, metadata={"format": "pt"})
    monkeypatch.setattr(tensor_files, "FILE_BYTES", 2**14)
    monkeypatch.setattr(passes, "RESIDENT_BYTES", 0)
    kept = pruned(full, tmp_path / "more")
    assert (tmp_path / "more/few" / INDEX).is_file()
    restore(tmp_path / "more/few", tmp_path / "more/rest", tmp_path / "again")
    before, *after = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("full", "one/few", "more/few", "again")
    )
    wte = "transformer.wte.weight"
    assert torch.equal(before[wte][kept], after[0][wte])
    assert all(torch.equal(after[0][name], tensor) for name, tensor in after[1].items())
    assert all(torch.equal(before[name], tensor) for name, tensor in after[2].items())


def test_the_restored_model_writes_the_same_text(tmp_path: Path) -> None:
    """Where no token wins that the pruned model does not have."""
    full = written("bias", "gpt2", tmp_path / "full")
    kept = pruned(full, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(full)
    gone = sorted(set(range(model.config.vocab_size)) - set(kept))
    with torch.no_grad():
        model.lm_head.bias[gone] = -20
    model.save_pretrained(full)
    pruned(full, tmp_path)
    restore(tmp_path / "few", tmp_path / "rest", tmp_path / "again")
    said = []
    for name in ("few", "again"):
        words = AutoTokenizer.from_pretrained(tmp_path / name)
        ids = words(texts()[3], return_tensors="pt")["input_ids"]
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        out = model.generate(ids, do_sample=False, max_new_tokens=30, pad_token_id=0)
        said.append(words.decode(out[0]))
    assert said[0] == said[1]


def test_tokens_that_settings_name_stay(tmp_path: Path) -> None:
    full = written("tied", "gpt2", tmp_path / "full")
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps({**config, "eos_token_id": [1200, 1300]}))
    assert {1200, 1300} <= set(pruned(full, tmp_path))


def test_a_model_whose_tokenizer_has_more_tokens_than_it_is_refused(tmp_path: Path) -> None:
    full = written("tied", "gpt2", tmp_path / "full")
    model = AutoModelForCausalLM.from_pretrained(full)
    model.resize_token_embeddings(500)
    model.save_pretrained(full)
    with pytest.raises(ModelError, match="the model only 500"):
        prune(full, tmp_path / "few", tmp_path / "rest", used=[900], margin=0, sample=[])
