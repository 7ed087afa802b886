"""What an exported model's card says."""

from pathlib import Path

import pytest

from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.stages.export import shared_licence


@pytest.fixture
def apache(tmp_path: Path) -> ModelSource:
    return carded(tmp_path / "apache", "---\nlicense: apache-2.0\nlanguage: en\n---\n\n# A model\n")


def carded(folder: Path, card: str) -> ModelSource:
    """A model folder with that card and nothing else."""
    folder.mkdir()
    (folder / "README.md").write_text(card)
    return ModelSource(path=str(folder))


def test_models_of_one_licence_hand_it_on(apache: ModelSource) -> None:
    assert shared_licence([apache]) == "apache-2.0"
    assert shared_licence([apache, apache]) == "apache-2.0"


@pytest.mark.parametrize(
    "card",
    [
        "# No head\n",
        "---\nlanguage: en\n---\n",
        "---\nlicense: mit\n---\n",
        "---\n",
        "---\n- a\n---\n",
        "---\n: [broken\n---\n",
        "---\nlicense: [apache-2.0]\n---\n",
    ],
)
def test_where_the_cards_do_not_agree_no_licence_is_claimed(
    apache: ModelSource, tmp_path: Path, card: str
) -> None:
    assert shared_licence([apache, carded(tmp_path / "other", card)]) is None


def test_a_model_without_a_card_has_no_licence_of_ours(tmp_path: Path) -> None:
    shape = ScratchModel(hidden=32, layers=1, heads=1, mlp=64)
    assert shared_licence([ModelSource(scratch=shape)]) is None
    assert shared_licence([ModelSource(path=str(tmp_path / "none"))]) is None
    assert shared_licence([ModelSource(hub="someone/model")]) is None


@pytest.mark.parametrize("name", ["tiny", "tiny-depth", "tiny-student"])
def test_the_models_that_ship_state_their_licence(name: str) -> None:
    assert shared_licence([ModelSource(path=f"data/models/{name}")]) == "apache-2.0"
