"""Tiny random models of families that people train, as folders such as the hub holds."""

import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    DeepseekV2Config,
    Ernie4_5Config,
    Exaone4Config,
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OlmoeConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
    StableLmConfig,
)

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
PHI_SIZES = {"tie_word_embeddings": False, "num_key_value_heads": 2, "intermediate_size": 256}
"""vLLM's code for Phi knows no others: as many heads for keys, and an MLP four times as wide."""
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
    "qwen3_moe": (
        Qwen3MoeConfig(
            **SIZES, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
        ),
        CHATML,
        None,
    ),
    "olmoe": (OlmoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2), CHATML, None),
    "deepseek_v2": (
        DeepseekV2Config(
            **(SIZES | {"num_key_value_heads": 4}),
            n_routed_experts=4,
            n_shared_experts=1,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            first_k_dense_replace=1,
            kv_lora_rank=512,
            q_lora_rank=None,
            qk_nope_head_dim=32,
            qk_rope_head_dim=64,
            v_head_dim=32,
        ),
        CHATML,
        None,
    ),
    "olmo2": (Olmo2Config(**SIZES), CHATML, None),
    "stablelm": (StableLmConfig(**SIZES), CHATML, None),
    "cohere": (CohereConfig(**SIZES), CHATML, "<BOS_TOKEN>"),
    "granite": (GraniteConfig(**SIZES), CHATML, None),
    "smollm3": (SmolLM3Config(**SIZES), CHATML, None),
    "gpt_neox": (GPTNeoXConfig(**{**SIZES, "tie_word_embeddings": False}), CHATML, None),
    "opt": (
        OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=64),
        CHATML,
        "</s>",
    ),
    "phi": (PhiConfig(**(SIZES | PHI_SIZES)), CHATML, None),
    "lfm2": (
        Lfm2Config(
            **SIZES,
            layer_types=["conv", "full_attention"],
            block_multiple_of=32,
            conv_dim=SIZES["hidden_size"],  # as the hub's have them; vLLM reads them
            block_dim=SIZES["hidden_size"],
        ),
        CHATML,
        None,
    ),
    "exaone4": (
        Exaone4Config(
            **SIZES, sliding_window=64, layer_types=["sliding_attention", "full_attention"]
        ),
        CHATML,
        None,
    ),
    "ernie4_5": (Ernie4_5Config(**SIZES, head_dim=32), CHATML, None),
    "gptj": (
        GPTJConfig(
            vocab_size=288,
            n_embd=64,
            n_layer=2,
            n_head=2,
            n_positions=512,
            rotary_dim=16,
            tie_word_embeddings=False,
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


def write_family(family: str, folder: Path) -> PreTrainedModel:
    """Fill a folder with a family's weights and tokenizer; returns the model."""
    config, turns, start = FAMILIES[family]
    config, words = copy.deepcopy(config), tokenizer(turns, start)
    config.eos_token_id, config.pad_token_id = words.eos_token_id, words.pad_token_id
    config.bos_token_id = words.bos_token_id
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


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
