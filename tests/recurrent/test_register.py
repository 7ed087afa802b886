"""Saved models load by name: with this package, and with nothing but their own folder."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM, RecurrentModel
from pipeline.recurrent.register import register

MakeModel = Callable[..., RecurrentForCausalLM]

CODE = {"blocks", "cache", "config", "counter", "effort", "exits", "forward_output", "injection"}
CODE |= {"looping", "model", "observer", "policy", "position_exits", "request", "token_batch"}
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])

ALONE = """
import os, sys
sys.path = [entry for entry in sys.path if not os.path.isdir(os.path.join(entry, "pipeline"))]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder)]
import importlib.util
assert importlib.util.find_spec("pipeline") is None
import torch
from transformers import AutoModelForCausalLM
tokens = torch.tensor({tokens})
model = AutoModelForCausalLM.from_pretrained({folder!r}, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules")
with torch.no_grad():
    logits = model(tokens, depths=torch.tensor([3])).logits
    text = model.generate(tokens, max_new_tokens=5, do_sample=False, num_iterations=2)
model.save_pretrained({again!r})
half = AutoModelForCausalLM.from_pretrained(
    {again!r}, trust_remote_code=True, dtype=torch.bfloat16
)
assert half.dtype == torch.bfloat16
with torch.no_grad():
    coarse = half(tokens, depths=torch.tensor([3])).logits.float()
torch.save((logits, text, coarse), {results!r})
"""


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()
    register()


def saved(make_model: MakeModel, folder: Path, **changes: Any) -> RecurrentForCausalLM:
    model = make_model(**changes)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_loads_without_its_code(
    make_model: MakeModel, tmp_path: Path, tied: bool
) -> None:
    options = {"halting_width": 8, "exit_gate": True, "tie_iterations": tied}
    model = saved(make_model, tmp_path, injection="gated", **options)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is RecurrentForCausalLM
    assert type(AutoConfig.from_pretrained(tmp_path)) is RecurrentConfig
    assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    backbone = AutoModel.from_pretrained(tmp_path)
    assert type(backbone) is RecurrentModel
    hidden = model(TOKENS).last_hidden_state
    assert torch.equal(backbone(TOKENS).last_hidden_state, hidden)


def test_half_precision_loads(make_model: MakeModel, tmp_path: Path) -> None:
    saved(make_model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert loaded(TOKENS).logits.dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_config(loaded.config).config == loaded.config


def test_saved_code_is_complete(make_model: MakeModel, tmp_path: Path) -> None:
    saved(make_model, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.py")} >= CODE
    auto = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto["AutoConfig"] == "config.RecurrentConfig"
    assert auto["AutoModelForCausalLM"] == "model.RecurrentForCausalLM"


def test_a_folder_is_enough(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot import us loads, runs, generates and saves the model."""
    folder, results = tmp_path / "model", tmp_path / "results.pt"
    model = saved(make_model, folder, state_init="normal", halting_width=8, prelude_layers=0)
    for name, value in (("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = ALONE.format(
        tokens=TOKENS.tolist(),
        folder=str(folder),
        again=str(tmp_path / "again"),
        results=str(results),
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    logits, text, coarse = torch.load(results)
    with torch.no_grad():
        expected = model(TOKENS, depths=torch.tensor([3])).logits
        written = model.generate(TOKENS, max_new_tokens=5, do_sample=False, num_iterations=2)
    assert torch.equal(logits, expected)
    assert torch.equal(text, written)
    assert (coarse - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert {path.stem for path in (tmp_path / "again").glob("*.py")} >= CODE
