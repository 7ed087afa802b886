"""A materialised folder keeps every end token of its source, its template's and its recipe's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.generate.chat import load_chat
from pipeline.models.materialize import materialize
from pipeline.models.model_folder import ModelError
from pipeline.recipe.model_source import ModelSource, ScratchModel

MakeFamily = Callable[..., Path]


def ends_of(folder: Path) -> list[int]:
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    return ends if isinstance(ends, list) else [ends]


def test_all_ends_stay(
    family_name: str, family: Any, make_family: MakeFamily, tmp_path: Path
) -> None:
    source = make_family(family_name)
    once = materialize(ModelSource(path=str(source)), tmp_path / "once")
    again = materialize(ModelSource(path=str(once)), tmp_path / "again")
    vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    wanted = {vocabulary[text] for text in (*family.ends, family.eos, family.turn_end) if text}
    for folder in (once, again):
        assert set(ends_of(folder)) == wanted
        config = json.loads((folder / "config.json").read_text())["eos_token_id"]
        assert {*(config if isinstance(config, list) else [config])} == wanted
    assert load_chat(once).row_end == vocabulary[family.turn_end or family.eos]


def test_generation_stops_at_the_turn_end(
    family_name: str, family: Any, make_family: MakeFamily, tmp_path: Path
) -> None:
    source = make_family(family_name, says=family.turn_end or family.eos)
    folder = materialize(ModelSource(path=str(source)), tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.tensor([load_chat(folder).prompt_ids("Hi")])
    said = model.generate(prompt, max_new_tokens=16, do_sample=False)
    assert said.shape[1] - prompt.shape[1] == 1


def test_stop_adds_tokens_and_ends_rows_where_the_template_names_none(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    source = make_family("words")
    folder = materialize(ModelSource(path=str(source), stop=("<pad>",)), tmp_path / "model")
    vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    assert set(ends_of(folder)) == {vocabulary["<pad>"], vocabulary["<eos>"]}
    assert load_chat(folder).row_end == vocabulary["<pad>"]


def test_a_stop_that_is_no_token_is_refused(make_family: MakeFamily, tmp_path: Path) -> None:
    source = ModelSource(path=str(make_family("gemma")), stop=("<end_of_tern>",))
    with pytest.raises(ModelError, match=r"model\.stop: '<end_of_tern>' .* mean <end_of_turn>"):
        materialize(source, tmp_path / "model")


def test_one_end_is_written_as_it_was(tmp_path: Path) -> None:
    shape = ScratchModel(hidden=64, layers=1, heads=2, mlp=64, max_position=64)
    folder = materialize(ModelSource(scratch=shape), tmp_path / "model")
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 1
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 1
