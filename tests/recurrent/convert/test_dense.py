"""Which dense checkpoints and splits are mapped, and that one iteration is the dense model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pipeline.recurrent.convert.checkpoint import ConversionError
from pipeline.recurrent.convert.dense import parse_split, show_split
from pipeline.recurrent.convert.folder import (
    convert_dense,
)
from pipeline.recurrent.model import RecurrentForCausalLM
from tests.recurrent.convert.checkpoints import (
    SIZES,
    configured,
    llama_model,
    logits,
    saved,
    tokens_of,
)

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


DENSE: Mapping[str, Callable[[], PreTrainedModel]] = {
    "llama, tied": lambda: llama_model(tie_word_embeddings=True, num_key_value_heads=4),
    "llama, grouped, llama3 positions": lambda: llama_model(
        tie_word_embeddings=False, num_key_value_heads=2, rope_parameters=LLAMA3
    ),
    "llama, biases, wide heads": lambda: llama_model(
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


@pytest.mark.parametrize("kind", list(DENSE))
def test_a_dense_model_and_its_conversion_are_equal_at_one_iteration(
    kind: str, tmp_path: Path
) -> None:
    dense = saved(DENSE[kind](), tmp_path / "dense")
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-4
    assert done.split == (1, 2, 1)
    tokens = tokens_of()
    expected = logits(dense, tokens)
    assert expected.std() > 0.1  # or anything would be equal
    assert torch.allclose(logits(tmp_path / "ours", tokens), expected, atol=1e-4)
    assert not torch.allclose(
        logits(tmp_path / "ours", tokens, num_iterations=2), expected, atol=1e-2
    )


@pytest.mark.parametrize("kind", list(DENSE))
@pytest.mark.parametrize("iterations", [None, 1])
def test_untied_iterations_are_the_dense_model_at_full_depth(
    kind: str, iterations: int | None, tmp_path: Path
) -> None:
    dense = saved(DENSE[kind](), tmp_path / "dense")
    untied = {"tie_iterations": False, "max_iterations": iterations}
    done = convert_dense(dense, tmp_path / "ours", split=(1, 2, 1), **untied)
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-5
    assert done.split == (1, 2, 1)
    assert done.config.max_iterations == done.config.num_iterations == (iterations or 2)
    tokens = tokens_of()
    expected = logits(dense, tokens)
    assert torch.allclose(logits(tmp_path / "ours", tokens), expected, atol=1e-5)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("dense", "ours")]
    sizes = [sum(tensor.numel() for tensor in named.values()) for named in weights]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("kind", list(DENSE))
def test_a_copied_core_is_the_dense_model_at_one_iteration_and_the_tied_one_at_more(
    kind: str, tmp_path: Path
) -> None:
    dense = saved(DENSE[kind](), tmp_path / "dense")
    options = {"split": (1, 2, 1), "max_iterations": 3}
    done = convert_dense(dense, tmp_path / "copied", copy_core=True, **options)
    convert_dense(dense, tmp_path / "tied", **options)
    assert done.max_logit_diff is not None
    assert done.max_logit_diff < 1e-5
    assert (done.config.num_iterations, done.config.core_blocks) == (1, 6)
    tokens = tokens_of()
    for depth in (1, 2, 3):
        copied, tied = (
            logits(tmp_path / name, tokens, num_iterations=depth) for name in ("copied", "tied")
        )
        assert torch.allclose(copied, tied, atol=1e-5), depth
    weights = load_file(tmp_path / "copied" / "model.safetensors")
    for copy in (2, 4):
        for layer in (0, 1):
            name = "self_attn.q_proj.weight"
            first, later = (weights[f"model.core.{i}.{name}"] for i in (layer, layer + copy))
            assert torch.equal(first, later)


def test_copies_are_two_by_default(llama: Path, tmp_path: Path) -> None:
    done = convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), copy_core=True)
    assert done.config.max_iterations == 2


def test_leaving_untied_iterations_jumps_to_the_coda(llama: Path, tmp_path: Path) -> None:
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), tie_iterations=False)
    convert_dense(llama, tmp_path / "less", split=(1, 1, 1), drop=(2,))
    tokens = tokens_of()
    early = logits(tmp_path / "ours", tokens, num_iterations=1)
    assert torch.allclose(early, logits(tmp_path / "less", tokens), atol=1e-5)
    assert not torch.allclose(early, logits(llama, tokens), atol=1e-2)


def test_layers_are_shared_out_to_iterations_in_their_order(tmp_path: Path) -> None:
    """Ten layers, six of them the core in three iterations of two."""
    sizes = {**SIZES, "num_hidden_layers": 10, "num_key_value_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dense = saved(Qwen2ForCausalLM(Qwen2Config(**sizes)), tmp_path / "dense")
    done = convert_dense(
        dense, tmp_path / "ours", split=(2, 6, 2), tie_iterations=False, max_iterations=3
    )
    assert (done.config.core_layers, done.config.max_iterations) == (2, 3)
    tokens = tokens_of()
    for depth, dropped in ((3, ()), (2, (6, 7)), (1, (4, 5, 6, 7))):
        less = tmp_path / f"less{depth}"
        convert_dense(dense, less, split=(1, 8 - len(dropped), 1), drop=dropped)
        ours = logits(tmp_path / "ours", tokens, num_iterations=depth)
        assert torch.allclose(ours, logits(less, tokens), atol=1e-5), depth


def test_padding_and_greedy_decoding_agree_with_the_dense_model(
    llama: Path, tmp_path: Path
) -> None:
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1))
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :4] = 0
    tokens = tokens_of(length=9)
    results = []
    for folder in (llama, tmp_path / "ours"):
        model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        results.append(
            model.generate(tokens, attention_mask=mask, max_new_tokens=12, do_sample=False)
        )
    assert torch.equal(*results)


def test_reentry_is_damped_and_reads_the_state_alone(llama: Path, tmp_path: Path) -> None:
    convert_dense(llama, tmp_path / "ours", split=(1, 2, 1), gate=0.3)
    tokens = tokens_of()
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
        results = ours(tokens, num_iterations=2).last_hidden_state
    assert torch.allclose(results, expected, atol=1e-4)


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
        ({"split": (1, 2, 1), "num_iterations": 9, "max_iterations": 8}, "num_iterations=9"),
        (
            {"split": (1, 2, 1), "tie_iterations": False, "max_iterations": 3},
            "2 core layers of split 1/2/1 cannot be shared out to 3 iterations",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    llama: Path, tmp_path: Path, keywords: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConversionError, match=says):
        convert_dense(llama, tmp_path / "ours", **keywords)
    assert not (tmp_path / "ours").exists()


def test_a_sliding_window_is_refused_where_it_is_in_force(tmp_path: Path) -> None:
    config = Qwen2Config(
        **SIZES, num_key_value_heads=2, use_sliding_window=True, sliding_window=32,
        max_window_layers=2,
    )  # fmt: skip
    dense = saved(Qwen2ForCausalLM(config), tmp_path / "dense")
    with pytest.raises(ConversionError, match="window 32"):
        convert_dense(dense, tmp_path / "ours", split=(1, 2, 1))
    wide = configured(dense, sliding_window=512)
    assert convert_dense(wide, tmp_path / "ours", split=(1, 2, 1)).max_logit_diff is not None


@given(st.tuples(st.integers(0, 99), st.integers(1, 99), st.integers(0, 99)))
def test_splits_are_read_as_they_are_written(split: tuple[int, int, int]) -> None:
    assert parse_split(show_split(split)) == split


@pytest.mark.parametrize("text", ["10/8", "10/0/12", "a/b/c", "10-8-12", "-1/2/3", ""])
def test_other_splits_are_refused(text: str) -> None:
    with pytest.raises(ConversionError, match="split"):
        parse_split(text)
