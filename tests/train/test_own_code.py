"""A model of code of its own: trained where the job says so, with its code carried along."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.chat import load_chat
from pipeline.generate.weights import checkpoint_weights, folder_weights
from pipeline.models.materialize import materialize
from pipeline.models.model_folder import ModelError
from pipeline.models.own_code import carry_code
from pipeline.recipe.model_source import ModelSource
from pipeline.train import sft_trainer
from tests.fresh_load import PROMPTS, said_afresh
from tests.own_code import AUTO_MAP, FILES, write_model
from tests.train.test_sft_trainer import MakeJob


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("pebble") / "source")


@pytest.fixture(scope="module")
def model(source: Path) -> Path:
    return materialize(
        ModelSource(path=str(source), trust_remote_code=True), source.parent / "model"
    )


def test_code_comes_along_through_training(
    source: Path, model: Path, make_job: MakeJob, sft_rows: Path, tmp_path: Path
) -> None:
    job = replace(make_job(max_tokens=128), model=model, own_code=True)
    sft_trainer.train(job, sft_rows)
    for name in FILES:
        assert (job.out / name).read_bytes() == (source / name).read_bytes()
    trained = AutoModelForCausalLM.from_pretrained(job.out, trust_remote_code=True)
    assert trained.config.auto_map == AUTO_MAP
    assert "PebbleMLP" in str(trained)  # which halves what a Llama's gives
    (tmp_path / "here").mkdir()
    assert len(said_afresh(job.out, cwd=tmp_path / "here", trusted=True)["said"]) == len(PROMPTS)
    sent = checkpoint_weights(trained, trained.state_dict())
    read = dict(folder_weights(job.out, own_code=True))
    assert sent.keys() == read.keys()
    assert all(torch.equal(sent[name], read[name]) for name in read)


def test_no_code_runs_unless_the_job_says_so(
    source: Path,
    make_job: MakeJob,
    sft_rows: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever lies in the folder: a tokenizer needs no code, weights do."""
    spoilt = tmp_path / "spoilt"
    materialize(ModelSource(path=str(source), trust_remote_code=True), spoilt)
    for name in FILES:
        (spoilt / name).write_text("raise SystemExit('it ran')\n")
    caplog.clear()
    assert load_chat(spoilt).prompt_ids("ab")
    assert not caplog.records
    with pytest.raises(ValueError, match="trust_remote_code"):
        sft_trainer.train(replace(make_job(), model=spoilt), sft_rows)
    with pytest.raises(ValueError, match="trust_remote_code"):
        next(folder_weights(spoilt))
    with pytest.raises(ModelError, match="needs code of its own"):
        materialize(ModelSource(path=str(spoilt)), tmp_path / "out")


def test_code_is_carried_under_its_names(source: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "pebble", "auto_map": {}}')
    carry_code(source, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.py")) == sorted(FILES)
