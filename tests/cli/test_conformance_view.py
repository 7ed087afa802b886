"""`stepwell doctor RECIPE --conformance` from outside."""

import json

import pytest

from pipeline.cli.app import main


def test_the_document_has_a_row_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "r1-zero", "--conformance", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = document["conformance"]
    assert set(rows[0]) == {"field", "recipe", "published", "source", "same"}
    assert len(rows) == document["same"] + document["other"] + document["not_stated"]


def test_a_recipe_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--conformance"]) == 2
    assert "stepwell doctor RECIPE --conformance" in capsys.readouterr().err
