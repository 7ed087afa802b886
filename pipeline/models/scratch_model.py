"""Models with random weights, and the character tokenizer that goes with them."""

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from pipeline.recipe.model_source import ScratchModel
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM

PAD, EOS, USER, ASSISTANT = "<pad>", "<eos>", "<user>", "<assistant>"
THINK = ("<think>", "</think>")

CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
"""What the character tokenizer covers: printable ASCII and the newline."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<assistant>{% generation %}{{ message['content'] }}<eos>{% endgeneration %}"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""``<user>question<assistant>completion<eos>``; a system message reads as a user's."""


def character_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per ASCII character, exact in both directions.

    Other characters become ``?``. ``<think>`` and ``</think>`` are single tokens that decoding
    keeps, since rewards read them; ``<pad>``, ``<eos>``, ``<user>`` and ``<assistant>`` are special
    and can be skipped.
    """
    symbols = [PAD, EOS, USER, ASSISTANT, *THINK, *CHARACTERS]
    inner = Tokenizer(
        models.WordLevel({symbol: index for index, symbol in enumerate(symbols)}, unk_token="?")
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens([AddedToken(text, special=True) for text in symbols[:4]])
    inner.add_tokens([AddedToken(text, special=False, normalized=False) for text in THINK])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=None,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def scratch_model(
    shape: ScratchModel, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    """A Llama or a recurrent model with tied embeddings and random weights.

    Weights are drawn with a standard deviation of ``0.7 / sqrt(hidden)``, which keeps the scale
    of activations at any width: transformers' fixed 0.02 is made for widths in the thousands, and
    at 128 learns nothing in the time in which this learns the order of steps (ours, measured).
    """
    vocabulary = tokenizer.get_vocab()
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden // shape.heads,
        "intermediate_size": shape.mlp,
        "max_position_embeddings": shape.max_position,
        "initializer_range": 0.7 * shape.hidden**-0.5,
        "tie_word_embeddings": True,
        "pad_token_id": vocabulary[PAD],
        "bos_token_id": None,
        "eos_token_id": vocabulary[EOS],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if shape.layers is not None:
            return LlamaForCausalLM(LlamaConfig(num_hidden_layers=shape.layers, **sizes))
        assert shape.core is not None
        config = RecurrentConfig(
            prelude_layers=shape.prelude,
            core_layers=shape.core,
            coda_layers=shape.coda,
            num_iterations=shape.iterations,
            max_iterations=shape.max_iterations,
            **sizes,
        )
        return RecurrentForCausalLM(config)
