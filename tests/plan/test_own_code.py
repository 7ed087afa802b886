"""What plan says of models that bring their own code along."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.plan.identity import model_identity
from pipeline.plan.notes import notes_of
from pipeline.plan.plan import make_plan
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe
from tests.own_code import AUTO_MAP, FILES, write_code
from tests.plan.plans import DEPTH, GRPO, SFT, recipe_with, refusal
from tests.plan.test_model_mistakes import LLAMA
from tests.plan.test_model_mistakes import folder as usual_folder

PROMPTS = {"train": {"task": "swaps", "size": 10, "difficulty": [1, 2]}}
GRPO_STAGE = {**GRPO, "max_tokens": 64}


def recipe(model: Path, stages: Any = None, **changes: Any) -> Recipe:
    source = {"path": str(model), "trust_remote_code": True, **changes}
    return recipe_with(stages or {"a": GRPO_STAGE}, model=source, prompts=PROMPTS)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = usual_folder(tmp_path / "m", LLAMA)
    return write_code(folder)


def test_code_is_named_where_a_key_allows_it(model: Path) -> None:
    allowed = recipe(model)
    make_plan(allowed)
    note = f"model.trust_remote_code: runs code of {model}: {', '.join(FILES)}"
    assert notes_of(allowed)[0] == note


def test_code_that_no_key_allows_is_refused_by_its_files(model: Path) -> None:
    text = refusal(recipe(model, trust_remote_code=False))
    assert text.startswith(f"model.path: {model} needs code of its own ({', '.join(FILES)}), ")
    assert "model.trust_remote_code: true" in text
    assert len(text.splitlines()) == 1


def test_a_students_code_needs_a_key_of_its_own(model: Path) -> None:
    student: dict[str, Any] = {"path": str(model)}
    stages = {"s": {"kind": "distill", "teacher": "base", "student": student, **ROWS}}
    changed = recipe_with(stages, prompts=PROMPTS)
    assert "write stages.s.student.trust_remote_code: true" in refusal(changed)
    student["trust_remote_code"] = True
    allowed = recipe_with(stages, prompts=PROMPTS)
    make_plan(allowed)
    assert notes_of(allowed)[0].startswith("stages.s.student.trust_remote_code: runs code of ")


ROWS = {"rows": "train.worked", "max_tokens": 64, "batch_rows": 2, "micro_batch_rows": 2}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_of_code_is_another_model(name: str, model: Path) -> None:
    source = ModelSource(path=str(model), trust_remote_code=True)
    before = make_plan(recipe(model)).fingerprints["a"]
    other = model_identity(source)
    (model / "unread.py").write_text("x = 1")
    assert model_identity(source) == other
    (model / name).write_text((model / name).read_text() + "\n# changed\n")
    assert make_plan(recipe(model)).fingerprints["a"] != before


@pytest.mark.parametrize(
    ("auto_map", "says"),
    [
        ({"AutoModel": AUTO_MAP["AutoModel"]}, "names no AutoConfig in the auto_map"),
        ({"AutoConfig": AUTO_MAP["AutoConfig"]}, "names no AutoModelForCausalLM"),
        (AUTO_MAP | {"AutoModel": "some/where--modeling.X"}, "no MODULE.CLASS of its own files"),
        (AUTO_MAP | {"AutoModel": "../modeling.X"}, "no MODULE.CLASS of its own files"),
        (AUTO_MAP | {"AutoModel": "elsewhere.X"}, "needs elsewhere.py, which is not there"),
    ],
)
def test_code_that_cannot_run(auto_map: Any, says: str, model: Path) -> None:
    write_code(model, auto_map=auto_map)
    text = refusal(recipe(model, {"a": SFT}))
    assert text.startswith(f"model.path: {model} ")
    assert says in text
    assert len(text.splitlines()) == 1


def test_a_file_that_another_imports_is_missed(model: Path) -> None:
    (model / "scaling_pebble.py").unlink()
    assert "needs scaling_pebble.py, which is not there" in refusal(recipe(model, {"a": SFT}))


def test_code_that_vllm_cannot_run(model: Path) -> None:
    write_code(model, auto_map={k: v for k, v in AUTO_MAP.items() if k != "AutoModel"})
    make_plan(recipe(model, {"a": SFT}))
    text = refusal(recipe(model))
    assert text.startswith("stages.a: ")
    assert "no code for PebbleForCausalLM, and the auto_map" in text
    known = {"AutoConfig": AUTO_MAP["AutoConfig"], "AutoModelForCausalLM": "modeling_pebble.X"}
    write_code(model, auto_map=known, architectures=["BailingMoeForCausalLM"])
    make_plan(recipe(model))


def test_a_tokenizer_of_code_is_refused(model: Path) -> None:
    named = '{"eos_token": "<|im_end|>", "auto_map": {"AutoTokenizer": ["words.W", null]}%s}'
    file = model / "tokenizer_config.json"
    file.write_text(named % ', "tokenizer_class": "PebbleTokenizer"')
    assert "is code of its own (PebbleTokenizer), which is never run" in refusal(recipe(model))
    file.write_text(named % ', "tokenizer_class": "PreTrainedTokenizerFast"')
    make_plan(recipe(model))


def test_a_key_without_need_is_named(tmp_path: Path) -> None:
    llama = usual_folder(tmp_path / "l", LLAMA | {"auto_map": AUTO_MAP})
    text = refusal(recipe(llama))
    assert "model.trust_remote_code: " in text
    assert "transformers knows llama; leave it out" in text


def test_what_code_of_others_cannot_be(model: Path) -> None:
    pairs = {"kind": "reward_model", "pairs": "train"}
    stages = {"a": {**pairs, "batch_rows": 2, "micro_batch_rows": 2, "max_tokens": 64}}
    assert "which makes no reward model" in refusal(recipe(model, stages))
    write_code(model, max_iterations=8)
    assert "is a dense model, which has no core" in refusal(recipe(model, {"a": DEPTH}))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"gguf": "x.gguf"}, "others bring no code along"),
        ({"path": "x", "split": (1, 1, 0)}, "leave split or trust_remote_code out"),
        ({"path": "x", "vocabulary": "pruned"}, "leave vocabulary or trust_remote_code out"),
    ],
)
def test_sources_that_no_code_fits(source: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModelSource(**source, trust_remote_code=True)


def test_code_of_the_hub_is_named_by_its_id() -> None:
    hub = recipe_with({"a": SFT}, model={"hub": "some/pebble", "trust_remote_code": True})
    assert notes_of(hub)[0].startswith("model.trust_remote_code: runs code of some/pebble: ")
