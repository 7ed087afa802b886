"""`stepwell export`: what it is asked for, from outside."""

import json
from pathlib import Path

import pytest

from pipeline.artifacts import publish
from pipeline.cli.app import main
from pipeline.errors import OK, WRONG

STUDENT = "data/models/tiny-student"


def test_a_gguf_file_of_a_model_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", STUDENT, "--gguf", "f16", "--to", str(out), "--json"]) == OK
    document = json.loads(capfd.readouterr().out)
    assert document["gguf"] == str(out / "model-f16.gguf")
    assert document["gap"] < 1e-3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([STUDENT, "--gguf", "q4", "--to", "OUT"], "--gguf q4: write f32 or f16"),
        ([STUDENT, "--gguf", "f16"], "say where with --to"),
        (["data/models/tiny", "--gguf", "f16", "--to", "OUT"], "a recurrent model has no place"),
        ([STUDENT, "--rows", "x"], "say where with --to"),
        ([STUDENT, "--rows", "x", "--gguf", "f16", "--to", "OUT"], "give one of"),
        ([STUDENT, "--dry-run"], "give --push ID too"),
        (["nowhere", "--gguf", "f16", "--to", "OUT"], "no folder with a model"),
        (["nowhere", "--rows", "x", "--to", "OUT"], "nowhere"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, given: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "out") if part == "OUT" else part for part in given]
    assert main(["export", *given, "--json"]) == WRONG
    assert said in json.loads(capfd.readouterr().out)["error"]
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_push(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "draft" / "model").mkdir(parents=True)
    (tmp_path / "draft" / "model" / "config.json").write_text("{}")
    target = tmp_path / "run" / "stages" / "export"
    publish(tmp_path / "draft", target, kind="export", stage="export", fingerprint="x")
    given = ["export", str(tmp_path / "run"), "--push", "me/model", "--dry-run"]
    assert main(given) == OK
    lines = capfd.readouterr().out.splitlines()
    assert lines[1:] == ["would upload to the", "model me/model:", "  config.json  2 bytes"]
    assert main([*given, "--json"]) == OK
    push = json.loads(capfd.readouterr().out)["push"]
    assert (push["repo"], push["kind"], len(push["files"])) == ("me/model", "model", 1)
