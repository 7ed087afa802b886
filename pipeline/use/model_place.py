"""Where a named model is: in a folder, in a run, in a GGUF file, or on the hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Artifact, ArtifactDamaged, open_artifact, published
from pipeline.errors import WrongInput
from pipeline.recipe.places import named_path

STAGES, MODEL_FOLDER = "stages", "model"

PACKAGE = "package:"
"""Prefix of a model that is the GGUF file in an installed Python package."""


class NoModel(WrongInput):
    """A name behind which there is no model; the message says what was looked for."""


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model's name for transformers, and what it is in words."""

    name: str
    words: str
    is_gguf: bool = False

    @property
    def folder(self) -> Path | None:
        """The model's folder; None for one of the hub, or a GGUF file."""
        path = Path(self.name)
        return None if self.is_gguf or not path.is_dir() else path


def model_place(name: str) -> ModelPlace:
    """Where a model is: its folder, a stage's, a run's (the exported model, else the one that was
    finished last), a `.gguf` file or `package:NAME`, else an id of the hub.

    Raises NoModel for a path that leads to none.
    """
    path = named_path(name)
    if name.startswith(PACKAGE) or path.suffix == ".gguf":
        return ModelPlace(name=name, words=name, is_gguf=True)
    if (path / "config.json").is_file():
        return ModelPlace(name=str(path), words=name)
    if (path / MODEL_FOLDER / "config.json").is_file():
        return ModelPlace(name=str(path / MODEL_FOLDER), words=name)
    if (path / STAGES).is_dir():
        return _of_run(path)
    if path.exists():
        raise NoModel(
            f"{name} is neither a model folder (it has no config.json) nor a run folder (it has no "
            f"{STAGES}/)"
        )
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise NoModel(f"{name} does not exist")
    return ModelPlace(name=name, words=name)


def _of_run(run_dir: Path) -> ModelPlace:
    """The exported model of a run, else the language model that was finished last."""
    stages = list(_models(run_dir))
    if not stages:
        raise NoModel(
            f"{run_dir} has no finished stage with a model in it: run its recipe to its end, or "
            "name another folder"
        )
    stage = max(stages, key=lambda s: (s.manifest.kind == "export", s.manifest.created))
    folder = stage.path / MODEL_FOLDER
    return ModelPlace(name=str(folder), words=f"{stage.manifest.stage} of {run_dir}")


def _models(run_dir: Path) -> Iterator[Artifact]:
    """The stages that hold a language model; a reward model writes nothing."""
    for path in published(run_dir / STAGES):
        try:
            stage = open_artifact(path, verify=False)
        except ArtifactDamaged:
            continue  # `stepwell verify` says which
        config = path / MODEL_FOLDER / "config.json"
        if config.is_file() and "SequenceClassification" not in config.read_text():
            yield stage
