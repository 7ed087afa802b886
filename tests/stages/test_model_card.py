"""What an exported model's card says, and that its snippet runs without us."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline.artifacts import Artifact, publish
from pipeline.generate.chat import load_chat
from pipeline.models.materialize import materialize
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.stages import export
from pipeline.stages.context import RunContext
from pipeline.stages.model_card import FOLDER, shared
from pipeline.use.model_place import model_place
from pipeline.use.spoken_model import spoken_model
from pipeline.use.talk import Talk

RECIPE = """
name: small
model: {{path: {model}}}
prompts:
  train: {{task: swaps, size: 10, difficulty: [1, 2]}}
  held_out: {{task: swaps, size: 10, split: test, difficulty: [1, 2]}}
rewards:
  answer: {{use: "builtin:exact_match"}}
stages:
  report: {{kind: evaluate, models: [base], prompts: held_out, max_tokens: 64}}
  out: {{kind: export, model: base}}
"""
RESULT = {
    "model": "base",
    "prompts": "held_out",
    "accuracy": 0.25,
    "ci_low": 0.1,
    "ci_high": 0.4,
    "problems": 10,
    "samples_per_prompt": 4,
    "mean_tokens": 12.0,
    "joules_per_answer": 0.5,
    "energy_source": "analytic",
}


@pytest.fixture
def apache(tmp_path: Path) -> ModelSource:
    return carded(tmp_path / "apache", "---\nlicense: apache-2.0\nlanguage: en\n---\n\n# A model\n")


def carded(folder: Path, card: str) -> ModelSource:
    """A model folder with that card and nothing else."""
    folder.mkdir()
    (folder / "README.md").write_text(card)
    return ModelSource(path=str(folder))


def test_models_of_one_licence_hand_it_on(apache: ModelSource) -> None:
    assert shared([apache], "license") == "apache-2.0"
    assert shared([apache, apache], "license") == "apache-2.0"


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
    assert shared([apache, carded(tmp_path / "other", card)], "license") is None


def test_a_model_without_a_card_has_no_licence_of_ours(tmp_path: Path) -> None:
    shape = ScratchModel(hidden=32, layers=1, heads=1, mlp=64)
    assert shared([ModelSource(scratch=shape)], "license") is None
    assert shared([ModelSource(path=str(tmp_path / "none"))], "license") is None
    assert shared([ModelSource(hub="someone/model")], "license") is None


@pytest.mark.parametrize("name", ["tiny", "tiny-depth", "tiny-picks", "tiny-student"])
def test_the_models_that_ship_state_their_licence(name: str) -> None:
    assert shared([ModelSource(path=f"data/models/{name}")], "license") == "apache-2.0"


def exported(model: Path, place: Path) -> Path:
    """The folder of an exported model, its card among the files."""
    file = place / "small.yaml"
    file.write_text(RECIPE.format(model=model))
    plan = make_plan(load_recipe(str(file)))
    (place / "out").mkdir()
    (place / "base" / "model").mkdir(parents=True)
    materialize(ModelSource(path=str(model)), place / "base" / "model")
    (place / "report").mkdir()
    artifacts: dict[str, Artifact] = {
        "base": publish(
            place / "base",
            place / "run" / "inputs" / "base",
            kind="checkpoint",
            stage="base",
            fingerprint="b" * 64,
        ),
        "report": publish(
            place / "report",
            place / "run" / "stages" / "report",
            kind="report",
            stage="report",
            fingerprint="c" * 64,
            info={"results": [RESULT]},
            surroundings={"machine": {"cpu": "avx2"}},
            seconds=90.0,
        ),
    }
    nothing: Any = SimpleNamespace()
    context = RunContext(
        plan=plan,
        run_dir=place / "run",
        work=place,
        out=place / "out",
        artifacts=artifacts,
        cluster=nothing,
        console=nothing,
        stopping=lambda: False,
    )
    (stage,) = [stage for stage in plan.stages if stage.name == "out"]
    export.run(stage, context)
    return place / "out" / "model"


@pytest.mark.parametrize("name", ["tiny", "tiny-student"])
def test_the_snippet_of_a_card_says_the_same_without_us(name: str, tmp_path: Path) -> None:
    """Recurrent and dense, in a process that has transformers alone: the greedy answer is ours."""
    folder = exported(Path(f"data/models/{name}").resolve(), tmp_path)
    card = (folder / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    away = tmp_path / "away"
    folder.rename(away)
    program = f"import sys\nsys.modules['pipeline'] = sys.modules['rewards'] = None\n{snippet}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program.replace(FOLDER, str(away))],
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    question = json.loads(re.findall(r'"content": ("[^"]*")', snippet)[0])
    reply = Talk.begin(spoken_model(model_place(str(away))), {}).ask(question, tell=lambda _: None)
    said = done.stdout.rstrip("\n").removesuffix("<eos>")
    chat = load_chat(away)
    tokens = chat.tokenizer(said, add_special_tokens=False)["input_ids"]
    assert said.replace("<think>", "").replace("</think>", "") == reply.reasoning + reply.answer
    assert len(tokens) + 1 == reply.tokens


def test_what_a_card_says(tmp_path: Path) -> None:
    folder = exported(Path("data/models/tiny").resolve(), tmp_path)
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["language"]) == ("apache-2.0", "en")
    assert "recurrent-depth" in head["tags"]
    for said in (
        "| **base** | held_out | 25.0% (10.0% to 40.0%) | 10 x 4 | 12 |",
        "2 times unless asked otherwise, 4 at most",
        "| report | 1.5 |",
        "base 0.5 J (analytic)",
        "generated by Stepwell, Apache-2.0",
        "| base | checkpoint | `bbbbbbbbbbbbbbbb` |",
        "mind the intervals",
    ):
        assert said in card
