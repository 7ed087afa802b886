"""Tiny Llama models for all tests: the tokenizers' quirks and the chat templates of families.

What a family is known for stands beside its name in FAMILIES; vocabularies are bytes, or for
`pieces` characters behind the SentencePiece-like blank that such tokenizers put before a text.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

settings.register_profile(
    "shared cores", deadline=None
)  # what else runs decides how long one takes
settings.load_profile("shared cores")

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}"
    "\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
    "{% else %}{{ eos_token }}{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    "[/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
OPENS_THINK = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|Assistant|>{{ m['content'].split('</think>')[-1] }}"
    "<|end|>{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
WORDS = (
    "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}### assistant:\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A tokenizer and a template. `specials[0]` is padding."""

    specials: Sequence[str]
    eos: str  # the tokenizer's
    ends: Sequence[str]  # of the source's generation_config
    turn_end: str  # what a row ends with, "" for the tokenizer's own end
    template: str | None = None
    bos: str | None = None  # put before a text by the tokenizer itself
    added: Sequence[str] = ()  # tokens that are not special
    pieces: bool = False


FAMILIES = {
    "gemma": Family(  # two ends; the template writes the start that the tokenizer adds
        specials=["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        eos="<eos>",
        ends=["<eos>", "<end_of_turn>"],
        turn_end="<end_of_turn>",
        template=GEMMA,
        bos="<bos>",
        added=["<h1>", "\n\n"],
    ),
    "phi3": Family(  # a closed conversation ends with the tokenizer's end after the turn's
        specials=["<pad>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        eos="<|endoftext|>",
        ends=["<|endoftext|>", "<|assistant|>", "<|end|>"],
        turn_end="<|end|>",
        template=PHI3,
    ),
    "glm": Family(  # a turn ends where the next one begins
        specials=[
            "<pad>", "<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>",
            "<|observation|>", "<|system|>",
        ],
        eos="<|endoftext|>",
        ends=["<|endoftext|>", "<|user|>", "<|observation|>"],
        turn_end="<|user|>",
        template=GLM,
    ),
    "llama3": Family(
        specials=[
            "<pad>", "<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>",
            "<|start_header_id|>", "<|end_header_id|>",
        ],
        eos="<|eot_id|>",
        ends=["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        turn_end="<|eot_id|>",
        template=LLAMA3,
        bos="<|begin_of_text|>",
    ),
    "qwen_base": Family(  # nobody says that the template's turn end ends anything
        specials=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        eos="<|endoftext|>",
        ends=["<|endoftext|>"],
        turn_end="<|im_end|>",
        template=CHATML,
        added=["<think>", "</think>", "<tool_call>"],
    ),
    "mistral": Family(
        specials=["<unk>", "<s>", "</s>"],
        eos="</s>",
        ends=["</s>"],
        turn_end="</s>",
        template=MISTRAL,
        bos="<s>",
        pieces=True,
    ),
    "zephyr": Family(  # adds a start that its template does not write
        specials=["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        eos="</s>",
        ends=["</s>"],
        turn_end="<|im_end|>",
        template=CHATML,
        bos="<s>",
        pieces=True,
    ),
    "base": Family(specials=["<s>", "</s>"], eos="</s>", ends=["</s>"], turn_end="", bos="<s>"),
    "pieces_base": Family(
        specials=["<unk>", "<s>", "</s>"], eos="</s>", ends=["</s>"], turn_end="", bos="<s>",
        pieces=True,
    ),
    "special_think": Family(
        specials=["<|end|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        eos="<|im_end|>",
        ends=["<|im_end|>"],
        turn_end="<|im_end|>",
        template=CHATML,
    ),
    "opens_think": Family(
        specials=["<pad>", "<bos>", "<|end|>", "<|User|>", "<|Assistant|>"],
        eos="<|end|>",
        ends=["<|end|>"],
        turn_end="<|end|>",
        template=OPENS_THINK,
        bos="<bos>",
        added=["<think>", "</think>"],
    ),
    "words": Family(  # its turns end with a text that is no token
        specials=["<pad>", "<eos>"], eos="<eos>", ends=["<eos>"], turn_end="", template=WORDS
    ),
}  # fmt: skip


MakeFamily = Callable[..., Path]

LONGEST_FIRST = (
    "test_run.py",
    "faults/test_faults.py",
    "test_run_start.py",
    "test_api.py",
    "test_stopping.py",
)
"""Files of a minute and more: one that began last would run alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files come first, the others in their order."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `family_name` runs for every family."""
    if "family_name" in metafunc.fixturenames:
        metafunc.parametrize("family_name", FAMILIES)


@pytest.fixture
def family(family_name: str) -> Family:
    """What the test's family is known for."""
    return FAMILIES[family_name]


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> MakeFamily:
    """The folder of a family's model, by name; `says` as in `family_model`. Not to be written."""
    made: dict[tuple[str, str | None], Path] = {}

    def make(name: str, *, says: str | None = None) -> Path:
        if (name, says) not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name, says] = family_model(name, folder, says=says)
        return made[name, says]

    return make


def family_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """The family's tokenizer."""
    inner = _pieces(family) if family.pieces else _bytes()
    inner.add_special_tokens([AddedToken(text, special=True) for text in family.specials])
    inner.add_tokens([AddedToken(t, special=False, normalized=False) for t in family.added])
    names = {"eos_token": family.eos, "pad_token": family.specials[0]}
    if family.bos is not None:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, inner.token_to_id(family.bos))]
        )
        names["bos_token"] = family.bos
    return PreTrainedTokenizerFast(tokenizer_object=inner, chat_template=family.template, **names)


def family_model(name: str, folder: Path, *, says: str | None = None) -> Path:
    """Write a model of the family to `folder`; with `says`, one that says this token always."""
    family = FAMILIES[name]
    tokenizer = family_tokenizer(family)
    vocabulary = tokenizer.get_vocab()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + 6,
            hidden_size=64,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=64,
            num_hidden_layers=1,
            max_position_embeddings=8192,
            tie_word_embeddings=False,
            eos_token_id=[vocabulary[end] for end in family.ends],
            bos_token_id=None if family.bos is None else vocabulary[family.bos],
            pad_token_id=vocabulary[family.specials[0]],
        )
    )
    if says is not None:
        with torch.no_grad():
            model.model.embed_tokens.weight.fill_(1.0)
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            model.lm_head.weight.zero_()
            model.lm_head.weight[vocabulary[says]] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ends = {"eos_token_id": [vocabulary[end] for end in family.ends]}
    (folder / "generation_config.json").write_text(json.dumps(ends))
    return folder


def _bytes() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("<", "|"), ("|", ">"), ("Ċ", "Ċ")]
    vocabulary = {text: i for i, text in enumerate([*letters, *("".join(m) for m in merges)])}
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _pieces(family: Family) -> Tokenizer:
    specials = list(family.specials)
    symbols = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    symbols += [chr(code) for code in range(33, 127)]
    merges = [("▁", letter) for letter in "aHW"]
    vocabulary = {text: i for i, text in enumerate([*symbols, *("".join(m) for m in merges)])}
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return inner
