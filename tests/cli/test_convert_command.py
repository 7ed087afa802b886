"""`stepwell convert`: documents, exit codes, and refusals in one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from pipeline.models.sample_text import DEFAULT_TEXT
from pipeline.models.scratch_model import character_tokenizer
from pipeline.recurrent.convert.dense import GATE

ROOT = Path(__file__).resolve().parents[2]
HUGINN_TINY = ROOT.parent / "shared/data/huginn_tiny"
TOKENIZER = character_tokenizer()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dense model of four layers in `dense`."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENIZER), hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained("dense")
    TOKENIZER.save_pretrained("dense")
    return tmp_path


def asked(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = OK) -> Any:
    """The document of `stepwell convert ... --json`."""
    assert main(["convert", *arguments, "--json"]) == code
    return json.loads(capfd.readouterr().out)


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a wrong command answers."""
    assert main(["convert", *arguments]) == WRONG
    seen = capfd.readouterr()
    assert seen.out == ""
    (line,) = [line for line in seen.err.splitlines() if "Loading weights" not in line]
    return line


def test_a_dense_model_by_a_split(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = asked(capfd, "dense", "out", "--split", "1/2/1")
    assert found["max_logit_diff"] < 1e-4
    assert (found["split"], found["destination"]) == ("1/2/1", "out")
    assert len(found["influence"]) == 4
    assert [row["split"] for row in found["damage"]] == ["1/2/1"]
    assert found["measured_on"] == DEFAULT_TEXT
    assert found["gate"] == GATE
    assert (found["num_iterations"], found["max_iterations"]) == (1, 8)
    assert json.loads((folder / "out/config.json").read_text())["core_layers"] == 2


def test_untied_iterations_are_the_core_s_layers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = asked(capfd, "dense", "out", "--split", "1/2/1", "--no-tie-iterations")
    assert found["max_logit_diff"] < 1e-5
    assert (found["num_iterations"], found["max_iterations"]) == (2, 2)
    assert len(found["leaving"]) == 2
    assert found["leaving"][0] != 0 == found["leaving"][1]
    assert json.loads((folder / "out/config.json").read_text())["core_layers"] == 1
    assert main(["convert", "dense", "two", "--split", "1/2/1", "--no-tie-iterations"]) == OK
    assert "costs if every token leaves there" in capfd.readouterr().out


def test_a_copied_core_is_reported_as_the_tied_one(capfd: pytest.CaptureFixture[str]) -> None:
    tied = asked(capfd, "dense", "tied", "--split", "1/2/1")
    copied = asked(capfd, "dense", "copied", "--split", "1/2/1", "--copy-core")
    assert copied["max_logit_diff"] < 1e-5
    assert (copied["num_iterations"], copied["max_iterations"]) == (1, 2)
    alike = ("split", "influence", "loss", "damage", "gate")
    assert [copied[key] for key in alike] == [tied[key] for key in alike]


def test_without_a_destination_it_reports_and_suggests(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = asked(capfd, "dense")
    assert (found["destination"], found["split"], found["max_logit_diff"]) == (None, None, None)
    assert [row["split"] for row in found["damage"]] == ["1/1/2", "2/1/1", "1/2/1"]
    one = {row["split"]: row["nats"] for row in found["damage"][:2]}
    assert found["suggested_split"] == min(one, key=lambda split: one[split])
    assert sorted(path.name for path in folder.iterdir()) == ["dense"]


def test_the_suggestion_can_be_taken_and_the_report_is_readable(
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["dense", "out", "--split", "auto", "--gate", "0.5", "--num-iterations", "9"]
    assert main(["convert", *arguments]) == OK
    shown = capfd.readouterr().out
    suggested = shown.partition("suggested: --split ")[2].split()[0]
    assert f"out: split {suggested}, logits within" in shown
    assert f"measured on {DEFAULT_TEXT}" in shown
    gate = load_file("out/model.safetensors")["model.injection.gate"]
    assert torch.all(gate == 0.5)
    assert json.loads(Path("out/config.json").read_text())["max_iterations"] == 9


def test_text_of_ones_own_and_a_model_without_a_tokenizer(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "mine.txt").write_text("a fine text to measure on. " * 40)
    assert asked(capfd, "dense", "--text", "mine.txt")["measured_on"] == "mine.txt"
    (folder / "dense/tokenizer.json").unlink()
    found = asked(capfd, "dense", "out", "--split", "1/2/1")
    assert found["measured_on"] == "random tokens: no tokenizer"
    assert "tokenizer.json" in refused(capfd, "dense", "--text", "mine.txt")


def test_layers_are_dropped_only_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    assert "say which layers go" in refused(capfd, "dense", "out", "--split", "1/1/1")
    found = asked(capfd, "dense", "out", "--split", "1/1/1", "--drop", "2")
    assert found["max_logit_diff"] < 1e-4
    assert {name.split(".")[2] for name in found["left_out"]} == {"2"}
    assert len(found["influence"]) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "nothing is no model folder"),
        (["package:not_installed_here", "out"], "is not installed"),
        (["nothing.gguf", "out"], "does not exist"),
        (["dense", "out"], "--split auto"),
        (["dense", "--split", "1/2/1"], "name one after the source"),
        (["dense", "out", "--split", "1/2"], "prelude/core/coda"),
        (["dense", "out", "--split", "auto", "--drop", "1"], "keeps all layers"),
        (["dense", "out", "--split", "auto", "--no-tie-iterations"], "give the split"),
        (["dense", "out", "--split", "1/2/1", "--copy-core", "--no-tie-iterations"], "share out"),
        (["dense", "out", "--split", "1/2/1", "--copy-core", "--max-iterations", "1"], "nothing"),
        (["dense", "out", "--split", "1/2/1", "--drop", "x"], "--drop x"),
        (["dense", "out", "--split", "1/2/1", "--state-init", "zero"], "--state-init"),
        (["dense", "out", "--split", "1/2/1", "--state-init", "ones"], "zero or normal"),
        (["dense", "out", "--split", "1/2/1", "--gate", "2"], "gate=2.0"),
        (["dense", "out", "--split", "1/2/1", "--text", "none.txt"], "--text none.txt"),
        (["dense", "dense", "--split", "1/2/1"], "exists already"),
        (["dense", "out", "--split", "1/2/1", "--max-iterations", "0"], "--max-iterations"),
    ],
)
def test_refusals(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capfd, *arguments)
    assert not (folder / "out").exists()


def test_a_damaged_file_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "dense/model.safetensors").write_bytes(b"nothing of the kind")
    assert "dense/model.safetensors cannot be read" in refused(
        capfd, "dense", "out", "--split", "1/2/1"
    )
    (folder / "dense/model.safetensors").unlink()
    assert "has no model.safetensors" in refused(capfd, "dense")
    (folder / "dense/config.json").write_text("{")
    assert "is no JSON" in refused(capfd, "dense")


@pytest.mark.skipif(not HUGINN_TINY.is_dir(), reason="the published checkpoint is not here")
def test_a_huginn_checkpoint_is_recognised(capfd: pytest.CaptureFixture[str]) -> None:
    source = str(HUGINN_TINY)
    found = asked(capfd, source, "out")
    assert (found["model_type"], found["split"]) == ("huginn_raven", "2/3/1")
    assert (found["state_init"], found["influence"]) == ("zero", None)
    drawn = asked(capfd, source, "drawn", "--state-init", "normal")
    assert drawn["state_init"] == "normal"
    assert "only dense models have a report" in refused(capfd, source)
    assert "has its split already" in refused(capfd, source, "other", "--split", "2/3/1")


def test_help_loads_no_ml_library() -> None:
    program = (
        "import sys\nfrom pipeline.cli.app import main\n"
        "assert main(['convert', '--help']) == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
