"""What `stepwell launch --dry-run` writes: read back by bash and YAML, for odd names too."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.app import main
from pipeline.cluster.places import thread_environment
from pipeline.cluster.ray_session import PROCESS_SETTINGS
from pipeline.launch.schedulers import SCHEDULERS
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.recipe.places import shipped_recipes

MINE = """
name: mine.1
model: {path: data/models/tiny}
prompts:
  train: {file: rows/train.jsonl}
rewards:
  brief: {use: "brief.py:brief"}
stages:
  reason: {kind: grpo, prompts: train, rewards: [brief], steps: 2, max_tokens: 8}
"""
SHIPPED = sorted(path.stem for path in shipped_recipes().glob("*.yaml"))
every_scheduler = pytest.mark.parametrize("on", SCHEDULERS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a blank in its name: a recipe, its reward with a helper, and its rows."""
    folder = tmp_path / "my project's"
    (folder / "rows").mkdir(parents=True)
    (folder / "my recipe.yaml").write_text(MINE)
    (folder / "brief.py").write_text(
        "from helper import value\n\ndef brief(sample):\n    return value(sample)\n"
    )
    (folder / "helper.py").write_text("def value(sample):\n    return 1.0\n")
    row = json.dumps({"question": "1+1?", "answer": "2"})
    (folder / "rows" / "train.jsonl").write_text(f"{row}\n" * 64)
    monkeypatch.chdir(folder)
    return folder


def client(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in place of Ray's client."""
    program = folder / "ray"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def launched(capfd: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["launch", *words, "--json"]) == code
    return json.loads(capfd.readouterr().out)


def file_of(document: dict[str, Any], name: str) -> str:
    return next(text for place, text in document["files"].items() if place.endswith(name))


@every_scheduler
@pytest.mark.parametrize("name", SHIPPED)
def test_files_of_shipped_recipes_can_be_read(
    name: str,
    on: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    document = launched(capfd, name, "--on", on, "--dry-run")
    for place, text in document["files"].items():
        assert (tmp_path / place).read_text() == text
        if place.endswith((".sbatch", ".sh")):
            subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        if place.endswith(".yaml"):
            assert yaml.safe_load(text)
        if place.endswith("sky.yaml"):
            for key in ("setup", "run"):
                script = yaml.safe_load(text)[key]
                subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert document["submit"]


@every_scheduler
def test_the_written_recipe_is_the_same_run(
    on: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its fingerprints are equal, from the folder that its copies lie in."""
    document = launched(capfd, "my recipe.yaml", "stages.reason.lr=3e-6", "--on", on, "--dry-run")
    place = next(p for p in document["files"] if p.endswith("recipe.yaml"))
    (project / "brief.py").unlink()
    (project / "rows" / "train.jsonl").unlink()
    copied = make_plan(load_recipe(place))
    assert copied.recipe.stages["reason"].lr == 3e-6  # type: ignore[union-attr]
    assert str(project / "brief.py") not in file_of(document, "recipe.yaml")
    assert copied.recipe.model.path is not None
    assert "data/models/tiny" in file_of(document, "recipe.yaml")
    assert any(name.endswith("helper.py") for name in document["copies"])


def test_fingerprints_stay(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = launched(capfd, "my recipe.yaml", "--on", "slurm", "--dry-run")
    place = next(p for p in document["files"] if p.endswith("recipe.yaml"))
    here, there = make_plan(load_recipe("my recipe.yaml")), make_plan(load_recipe(place))
    assert there.fingerprints["reason"] == here.fingerprints["reason"]


def test_files_of_equal_names_are_kept_apart(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "other").mkdir()
    (project / "other" / "brief.py").write_text("def brief(sample):\n    return 0.0\n")
    (project / "two.yaml").write_text(
        MINE.replace(
            '{use: "brief.py:brief"}', '{use: "brief.py:brief"}\n  b: {use: "other/brief.py:brief"}'
        )
    )
    document = launched(capfd, "two.yaml", "--on", "ray", "--dry-run")
    sources = [Path(path) for path in document["copies"].values() if path.endswith("brief.py")]
    assert len(set(sources)) == 2


def test_kuberay_mounts_every_file(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = launched(capfd, "my recipe.yaml", "--on", "kuberay", "--dry-run")
    config = yaml.safe_load(file_of(document, "files.yaml"))
    job = yaml.safe_load(file_of(document, "rayjob.yaml"))
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    volume = next(v for v in head["volumes"] if v["name"] == "files")["configMap"]
    assert volume["name"] == config["metadata"]["name"]
    assert {item["key"] for item in volume["items"]} == set(config["data"])
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_slurm_takes_seeds_as_an_array(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    document = launched(capfd, "my recipe.yaml", "--on", "slurm", "--seeds", "3,5", "--dry-run")
    text = file_of(document, "job.sbatch")
    assert "#SBATCH --array=0-1" in text
    assert "SEEDS=(3 5)" in text
    for line in ("--requeue", "--signal=B:USR1@180", "--open-mode=append"):
        assert f"#SBATCH {line}" in text
    refused = launched(
        capfd, "my recipe.yaml", "--on", "ray", "--seeds", "3,5", "--dry-run", code=2
    )
    assert "arrays" in refused["error"]


def test_an_edited_file_is_kept(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("my recipe.yaml", "--on", "slurm", "--dry-run")
    document = launched(capfd, *words)
    place = Path(next(p for p in document["files"] if p.endswith("job.sbatch")))
    place.write_text(place.read_text().replace("##SBATCH --partition=...", "#SBATCH -p gpu"))
    assert launched(capfd, *words)["edited"] == [str(place)]
    assert "#SBATCH -p gpu" in place.read_text()


@pytest.mark.parametrize(("on", "tool"), [("slurm", "sbatch"), ("kuberay", "kubectl")])
def test_a_missing_program_is_one_sentence(
    on: str,
    tool: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    refused = launched(capfd, "my recipe.yaml", "--on", on, code=2)
    assert refused["error"].startswith(f"{tool} is not installed here")
    assert "\n" not in refused["error"]


def test_wrong_words_are_one_sentence(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words, sentence in [
        (("my recipe.yaml", "--on", "slrum"), "did you mean slurm?"),
        (("my recipe.yaml",), "--on slurm|ray|kuberay|sky"),
        (("my recipe.yaml", "--on", "slurm", "--seeds", "1,1"), "twice"),
        (("my recipe.yaml", "--on", "slurm", "--storage", "runs"), "absolute"),
        (("--status",), "no job was launched"),
        (("--stop",), "no job was launched"),
    ]:
        assert sentence in launched(capfd, *words, code=2)["error"]


def test_ray_gets_no_variable_that_the_run_sets_too(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It refuses to merge two environments with one variable."""
    document = launched(capfd, "my recipe.yaml", "--on", "ray", "--dry-run")
    variables = yaml.safe_load(file_of(document, "runtime_env.yaml"))["env_vars"]
    assert variables == {"RAY_JOB_STOP_WAIT_TIME_S": "180"}
    assert not variables.keys() & (PROCESS_SETTINGS | thread_environment(1, "cpu")).keys()
    document = launched(capfd, "my recipe.yaml", "--on", "kuberay", "--dry-run")
    assert "runtimeEnvYAML" not in yaml.safe_load(file_of(document, "rayjob.yaml"))["spec"]


def test_a_cluster_that_wants_a_token_is_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program in place of Ray's client, which ends as that does without a token."""
    client(project, "echo ray.exceptions.AuthenticationError: no token >&2; exit 1", monkeypatch)
    refused = launched(capfd, "my recipe.yaml", "--on", "ray", "--address", "http://h:8265", code=2)
    assert refused["error"].startswith("the Ray cluster at http://h:8265 wants a token")


STATUS = """
case "$2" in
  submit) echo "SUCC cli.py:66 -- Job 'raysubmit_1' submitted successfully" ;;
  status) echo "ERR cli.py:74 -- Job 'raysubmit_1' failed"
    echo "Status message: Job entrypoint command failed with exit code 3, last available logs:"
    echo "12:00:00 reason (grpo): running; Status for job 'raysubmit_1': RUNNING" ;;
  logs) echo "12:00:00 reason (grpo): running" ;;
esac
"""


def test_words_of_a_jobs_log_are_not_its_state(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray's client shows the end of the log with a failure."""
    client(project, STATUS, monkeypatch)
    assert main(["launch", "my recipe.yaml", "--on", "ray"]) == 3
    assert capfd.readouterr().out.startswith("FAILED; run folder:")
    assert launched(capfd, "--status")["jobs"][0]["state"] == "FAILED"


AWAY = """
case "$2" in
  submit) echo "SUCC cli.py:66 -- Job 'raysubmit_1' submitted successfully" ;;
  status) if [ -e asked ]; then echo "Job 'raysubmit_1' succeeded"; else
    touch asked; echo "ConnectionError: Failed to connect to Ray at address: http://h:8265." >&2
    exit 1; fi ;;
esac
"""


def test_a_server_that_is_away_for_a_moment_ends_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    client(project, AWAY, monkeypatch)
    words = ["my recipe.yaml", "--on", "ray", "--address", "http://h:8265"]
    assert main(["launch", *words]) == 0
    (project / "asked").unlink()
    capfd.readouterr()
    assert main(["launch", "--status"]) == 0
    said = capfd.readouterr()
    assert "raysubmit_1: UNKNOWN" in said.out
    assert "no job server of a Ray cluster answers at http://h:8265" in said.err
