"""A dense model folder as one GGUF file, for llama.cpp and Ollama, read again before it counts.

The layout is llama.cpp's (`convert_hf_to_gguf.py`), written through its own package `gguf`: Llama's
rows of query and key are put into the order of its rotary embedding, Qwen's stay. Matrices are
float32 or float16; vectors are float32 always.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gguf import GGUFWriter, LlamaFileType
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.artifacts import whole_file
from pipeline.generate.chat import Chat, load_chat
from pipeline.models.gguf_vocabulary import Vocabulary, vocabulary_of
from pipeline.models.model_folder import ModelError, check_folder
from pipeline.recurrent.shape import MODEL_TYPE

FloatType = Literal["f32", "f16"]

KINDS = ("llama", "qwen2", "qwen3")
"""Kinds of model that are written; llama.cpp has the same names."""

TENSORS: Mapping[str, str] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""llama.cpp's names, by transformers'."""

LARGEST_GAP = 1e-3
"""Most that a logit of the file, read again, may differ: what sums in another order give."""

CHECKED_TOKENS = 48
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")


def export_gguf(folder: Path, file: Path, *, dtype: FloatType) -> float:
    """Write the model in `folder` to `file`, whole or not at all. Returns the largest difference of
    a logit between the folder's model, its matrices rounded as the file's, and the file's, read
    again by transformers.

    Raises ModelError for a model that is recurrent, of another kind, or with what the format has no
    place for, and where the file does not say the same.
    """
    check_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    _check(folder, config)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chat = load_chat(folder)
    if not chat.ends:
        raise ModelError(f"{folder}: the model has no end token, which a GGUF file must name")
    vocabulary = vocabulary_of(folder, size=config["vocab_size"])
    with whole_file(file) as temporary:
        draft = temporary.with_suffix(".gguf")  # transformers reads by the name
        try:
            _write(draft, model, chat, vocabulary, name=folder.name, dtype=dtype)
            gap = _gap(draft, model, dtype=dtype)
            if gap > LARGEST_GAP:
                raise ModelError(
                    f"{folder}: the GGUF file, read again, gives other logits (by {gap:.2g}): it "
                    "is not written; export without --gguf"
                )
            draft.rename(temporary)
        finally:
            draft.unlink(missing_ok=True)
    return gap


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind == MODEL_TYPE:
        raise ModelError(
            f"{folder}: a recurrent model has no place in a GGUF file, which llama.cpp runs layer "
            "after layer: distil it into a dense student and export that"
        )
    if kind not in KINDS:
        raise ModelError(
            f"{folder}: a {kind} model is not written as GGUF; {', '.join(KINDS)} models are: "
            "llama.cpp's own convert_hf_to_gguf.py knows more"
        )
    rope = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get(
        "rope_type", "default"
    )
    if rope != "default":
        raise ModelError(
            f"{folder}: rotary positions of the type {rope} are not written as GGUF: use "
            "llama.cpp's own convert_hf_to_gguf.py"
        )
    biased = [key for key in ("attention_bias", "mlp_bias") if config.get(key)]
    if biased:
        raise ModelError(f"{folder}: {biased[0]} is not written as GGUF: export without --gguf")


def _write(
    file: Path,
    model: PreTrainedModel,
    chat: Chat,
    vocabulary: Vocabulary,
    *,
    name: str,
    dtype: FloatType,
) -> None:
    config: Any = model.config
    writer = GGUFWriter(str(file), config.model_type)
    writer.add_name(name)
    half = dtype == "f16"
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
    _add_sizes(writer, config)
    _add_vocabulary(writer, vocabulary, chat)
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        writer.add_tensor(_name(key), _stored(key, tensor, config, half=half))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: GGUFWriter, config: Any) -> None:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary, chat: Chat) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.rule)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_blank)
    writer.add_token_merges(vocabulary.merges)
    tokenizer = chat.tokenizer
    # transformers 5.17 reads no end of a file that has no start; without one nothing is put first
    start = chat.row_end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    writer.add_bos_token_id(start)
    writer.add_add_bos_token(chat.begins)
    writer.add_add_eos_token(False)
    writer.add_eos_token_id(chat.row_end)
    for end in chat.ends:
        if end != chat.row_end:
            writer.add_eot_token_id(end)
            break
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(_GENERATION.sub("", tokenizer.chat_template))


def _name(key: str) -> str:
    """llama.cpp's name of a tensor."""
    stem, _, kind = key.rpartition(".")
    layer = _LAYER.fullmatch(stem)
    if layer is None:
        return f"{TENSORS[stem]}.{kind}"
    return f"blk.{layer[1]}.{TENSORS[layer[2]]}.{kind}"


def _stored(key: str, tensor: Tensor, config: Any, *, half: bool) -> np.ndarray:
    weights = tensor.float()
    if config.model_type == "llama":
        if key.endswith("q_proj.weight"):
            weights = _turned(weights, config.num_attention_heads)
        elif key.endswith("k_proj.weight"):
            weights = _turned(weights, config.num_key_value_heads)
    array = weights.contiguous().numpy()
    return array.astype(np.float16) if half and array.ndim > 1 else array


def _turned(weights: Tensor, heads: int) -> Tensor:
    """Rows [heads * size, h] whose halves of a head are turned by one angle, in llama.cpp's order:
    the two that an angle turns side by side."""
    rows = weights.view(heads, 2, weights.shape[0] // heads // 2, weights.shape[1])
    return rows.swapaxes(1, 2).reshape(weights.shape)


@torch.no_grad()
def _gap(file: Path, model: PreTrainedModel, *, dtype: FloatType) -> float:
    again = AutoModelForCausalLM.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=torch.float32
    ).eval()
    if dtype == "f16":
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half().float())
    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    shape = (1, min(CHECKED_TOKENS, config.max_position_embeddings))
    ids = torch.randint(config.vocab_size, shape, generator=generator)
    return float((again(ids).logits - model(ids).logits).abs().max())
