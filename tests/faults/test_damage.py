"""Files of a run that was killed are damaged: the next launch says so, and ends the same."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.launches import Fault, finished, launch, outcome, project

pytestmark = pytest.mark.faults

STEP = "journal/reason/step-0000"
LAST = "work/reason/checkpoints/checkpoint-10"
KILLED = Fault(
    event="os.mkdir", path=r"work/reason/checkpoints/checkpoint-11$", target="driver", still=True
)
"""Checkpoints 8 and 10 are there by then, and all eleven steps of the journal. The rank, which dies
a moment after the driver, must not go on to the stage's end."""


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_text("")


def scribble(path: Path) -> None:
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first[:9] + "\n", *rest]))


def hollow(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
    (path / "complete").write_text("")


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


Damage = tuple[str, Callable[[Path], Any], str]
"""The file, what happens to it, and what is said."""
DAMAGES: dict[str, Damage] = {
    "weights cut": (f"{LAST}/model.safetensors", cut, "checkpoint-10 is damaged"),
    "weights flipped": (f"{LAST}/model.safetensors", flip, "differs from its checksum"),
    "optimizer flipped": (f"{LAST}/optimizer.pt", flip, "differs from its checksum"),
    "random states gone": (f"{LAST}/rng_state.pth", Path.unlink, "rng_state.pth is missing"),
    "an empty mark": (f"{LAST}/complete", empty, "complete is damaged"),
    "a mark of nothing": (LAST, hollow, "complete is damaged"),
    "a name that leads nowhere": ("work/reason/checkpoints/checkpoint-20", nowhere, ""),
    "all checkpoints gone": ("work/reason/checkpoints", shutil.rmtree, ""),
    "a journaled step flipped": (f"{STEP}09.parquet", flip, "lies before checkpoint-10"),
    "a journaled step cut": (f"{STEP}01.parquet", cut, "set aside as step-000001.parquet.old-1"),
    "the step of now": (f"{STEP}10.parquet", flip, "it is made again"),
    "a finished artifact": ("stages/cold/model/model.safetensors", flip, "made again"),
    "its manifest": ("stages/cold/manifest.json", cut, "manifest.json is damaged"),
    "an input": ("inputs/base/model/config.json", Path.unlink, "config.json is missing"),
    "metrics cut": ("work/reason/metrics.jsonl", cut, ""),
    "a row of metrics": ("work/reason/metrics.jsonl", scribble, "lacks 1 of 10 rows"),
    "one of a finished stage": ("work/cold/metrics.jsonl", scribble, "there is no report"),
    "the table of stages": ("state.json", cut, ""),
    "the recipe": ("recipe.yaml", cut, ""),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its last step, a copy of it beside: `restored` puts it back."""
    folder = project(tmp_path_factory.mktemp("killed"))
    code, text = launch(folder, KILLED)
    assert code == -signal.SIGKILL, text
    assert (folder / "runs" / "faults" / LAST / "complete").exists()
    shutil.copytree(folder, _copy_of(folder), symlinks=True)
    return folder


def restored(folder: Path) -> Path:
    """The killed run in its own place: elsewhere its rewards' file would be another one."""
    shutil.rmtree(folder)
    return shutil.copytree(_copy_of(folder), folder, symlinks=True)


def _copy_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-copy")


@pytest.mark.parametrize("name", DAMAGES)
def test_the_end_is_the_same(name: str, killed: Path, undisturbed: dict[str, Any]) -> None:
    file, damage, said = DAMAGES[name]
    folder = restored(killed)
    damage(folder / "runs" / "faults" / file)
    ((_, text),) = finished(folder)
    assert said in text
    assert "Traceback" not in text
    expected = undisturbed
    if said == "lies before checkpoint-10" or name == "a journaled step cut":
        expected = without_step(undisturbed, int(Path(file).stem[5:]))
    if damage is scribble:
        expected = without_row(expected, file)
    assert outcome(folder / "runs" / "faults") == expected


def without_row(outcome: dict[str, Any], file: str) -> dict[str, Any]:
    """The same, but for the first row of a file of metrics."""
    return outcome | {"metrics": outcome["metrics"] | {file: outcome["metrics"][file][1:]}}


def without_step(outcome: dict[str, Any], number: int) -> dict[str, Any]:
    """The same, but for one step of the journal: the weights of after it have it already."""
    steps = {n: s for n, s in outcome["journals"]["journal/reason"].items() if n != number}
    return outcome | {"journals": outcome["journals"] | {"journal/reason": steps}}
