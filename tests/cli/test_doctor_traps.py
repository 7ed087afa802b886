"""Doctor catches what is planted: a recipe that plans (or nearly), and one fault in it, its data,
its model or its machine."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from pipeline.cli.doctor import recipe_checks
from pipeline.cli.doctor.check import Check, Status
from pipeline.cli.doctor.data_checks import gold_checks, hub_check, load_entries, note_checks
from pipeline.cli.doctor.libraries import Trial, gpu_check, library_check, plugin_check
from pipeline.cli.doctor.machine import ray_token, shared_memory
from pipeline.cli.doctor.model_checks import model_checks, questions_of
from pipeline.cli.doctor.model_facts import answered
from pipeline.cli.doctor.recipe_checks import row_counts
from pipeline.cli.doctor.signal_probe import signal_check
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.load import load_recipe

ROWS = [{"question": f"What is {n} and 2?", "answer": str(n + 2)} for n in range(24)]
TINY = Path("data/models/tiny").resolve()


class Desk:
    """A recipe with its rows and its model, to plant a fault in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "model"
        self.rows: list[dict[str, Any]] = [dict(row) for row in ROWS]
        self.held_out = [
            {"question": f"How much is {n} less 1?", "answer": n - 1} for n in range(9)
        ]
        shutil.copytree(TINY, self.model)
        self.recipe: dict[str, Any] = {
            "name": "planted",
            "model": {"path": str(self.model)},
            "prompts": {"train": {"file": "train.jsonl"}, "test": {"file": "test.jsonl"}},
            "rewards": {"answer": {"use": "builtin:exact_match"}},
            "stages": {
                "cold": {
                    "kind": "sft", "rows": "train.answer", "batch_rows": 8, "max_tokens": 128,
                },
                "reason": {
                    "kind": "grpo", "init": "cold", "prompts": "train", "rewards": ["answer"],
                    "steps": 2, "prompts_per_step": 4, "samples_per_prompt": 4, "max_tokens": 32,
                },
                "report": {
                    "kind": "evaluate", "models": ["base"], "prompts": "test", "max_tokens": 32,
                },
            },
            "hardware": {"device": "cpu"},
        }  # fmt: skip

    def plan(self) -> Plan:
        for name, rows in (("train", self.rows), ("test", self.held_out)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text(text)
        (self.folder / "planted.yaml").write_text(yaml.safe_dump(self.recipe))
        return make_plan(load_recipe(str(self.folder / "planted.yaml")))

    def of_data(self) -> list[Check]:
        plan = self.plan()
        loaded = list(load_entries(plan.recipe, hub_answers=False))
        entries = {name: rows for _, name, rows in loaded}
        return [
            *(check for check, _, _ in loaded),
            *row_counts(plan.recipe, entries),
            *note_checks(plan.recipe),
            *gold_checks(plan.recipe, entries),
        ]

    def of_model(self) -> list[Check]:
        plan = self.plan()
        entries = {name: rows for _, name, rows in load_entries(plan.recipe, hub_answers=False)}
        (question,) = questions_of(plan, entries)
        return list(model_checks(plan, question, answered(question.document())))

    def of_recipe(self, *, isolated: bool = True) -> list[Check]:
        run_dir = self.folder / "runs" / "planted"
        return list(recipe_checks.recipe_checks(self.plan(), run_dir=run_dir, isolated=isolated))

    def template(self, text: str) -> None:
        (self.model / "chat_template.jinja").write_text(text)

    def changed(self, file: str, **values: Any) -> None:
        path = self.model / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def tensors(self, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
        file = self.model / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def expect(checks: Sequence[Check], status: Status, name: str, *words: str) -> None:
    """Just the planted fault is caught, with what to do."""
    odd = [check for check in checks if check.status != "fine"]
    assert [(check.name, check.status) for check in odd] == [(name, status)], odd
    assert odd[0].fix
    for word in words:
        assert word in odd[0].why


def test_without_a_fault_all_is_fine(desk: Desk) -> None:
    checks = [*desk.of_recipe(), *desk.of_data(), *desk.of_model()]
    assert [check for check in checks if check.status != "fine"] == []
    assert {"data train", "golds train", "model files", "model template", "model ends"} <= {
        check.name for check in checks
    }


def _wrong_golds(desk: Desk) -> None:
    (desk.folder / "own.py").write_text("def never(sample):\n    return 0.0\n")
    desk.recipe["rewards"]["answer"] = {"use": "own.py:never"}


def _one_wrong_gold(desk: Desk) -> None:
    (desk.folder / "own.py").write_text("def most(sample):\n    return float(sample.gold != '5')\n")
    desk.recipe["rewards"]["answer"] = {"use": "own.py:most"}


def _one_answer(desk: Desk) -> None:
    desk.rows = [{**row, "answer": "#"} for row in desk.rows]


def _in_held_out(desk: Desk) -> None:
    desk.held_out = [dict(row) for row in desk.rows[:6]]


def _two_golds(desk: Desk) -> None:
    desk.rows.append({**desk.rows[0], "answer": "1000"})


def _few_rows(desk: Desk) -> None:
    desk.rows = desk.rows[:3]


def _raising_reward(desk: Desk) -> None:
    (desk.folder / "own.py").write_text("def own(sample):\n    return sample.columns['absent']\n")
    desk.recipe["rewards"]["own"] = {"use": "own.py:own"}
    desk.recipe["stages"]["reason"]["rewards"].append("own")


@pytest.mark.parametrize(
    ("plant", "status", "name", "word"),
    [
        (_wrong_golds, "wrong", "golds train", "scores 0"),
        (_one_wrong_gold, "warning", "golds train", "1 of 16"),
        (_one_answer, "warning", "golds train", "'#'"),
        (_in_held_out, "warning", "rows", "prompts.train"),
        (_two_golds, "warning", "rows", "another gold"),
        (_few_rows, "warning", "batches", "fewer than"),
        (_raising_reward, "wrong", "reward own", "absent"),
    ],
)
def test_data(
    desk: Desk, plant: Callable[[Desk], None], status: Status, name: str, word: str
) -> None:
    plant(desk)
    checks = {check.name: check for check in desk.of_data() if check.status != "fine"}
    assert checks[name].status == status
    assert word in checks[name].why
    assert checks[name].fix


def test_a_data_set_that_cannot_be_had(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    silent = hub_check()
    assert silent is not None
    assert silent.status == "warning"
    assert "127.0.0.1:1 does not answer" in silent.why


def _lost_system(desk: Desk) -> None:
    desk.recipe["prompts"]["train"]["system"] = "Be brief."
    desk.template(
        "{% for m in messages %}{% if m.role != 'system' %}<user>{{ m.content }}"
        "{% endif %}{% endfor %}<assistant>"
    )


def _double_start(desk: Desk) -> None:
    desk.template("<user><user>{% for m in messages %}{{ m.content }}{% endfor %}<assistant>")
    tokenizer = json.loads((desk.model / "tokenizer.json").read_text())
    user = next(t["id"] for t in tokenizer["added_tokens"] if t["content"] == "<user>")
    pieces = [
        {"SpecialToken": {"id": "<user>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    desk.changed(
        "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": pieces,
            "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<user>": {"id": "<user>", "ids": [user], "tokens": ["<user>"]}},
        },
    )


def _opened_think(desk: Desk) -> None:
    (desk.folder / "own.py").write_text("def own(sample):\n    return 1.0\n")
    desk.recipe["rewards"]["own"] = {"use": "own.py:own"}
    desk.recipe["stages"]["reason"]["rewards"].append("own")
    desk.template("{% for m in messages %}<user>{{ m.content }}{% endfor %}<assistant><think>")


def _cut_questions(desk: Desk) -> None:
    desk.template("{% for m in messages %}<user>{{ m.content[:24] }}{% endfor %}<assistant>")
    for row in desk.rows:
        row["question"] = f"Say in one word: {row['question']}"


def _long_prompt(desk: Desk) -> None:
    desk.rows[5]["question"] = "1 " * 600
    desk.recipe["stages"]["cold"]["max_tokens"] = 1300


def _long_prompt_dropped(desk: Desk) -> None:
    _long_prompt(desk)
    desk.recipe["prompts"]["train"]["too_long"] = "drop"


def _long_rows(desk: Desk) -> None:
    desk.recipe["stages"]["cold"]["max_tokens"] = 12


def _no_such_stop(desk: Desk) -> None:
    desk.recipe["model"]["stop"] = ["<|im_end|>"]


def _far_end(desk: Desk) -> None:
    desk.changed("generation_config.json", eos_token_id=5000)


def _fewer_layers(desk: Desk) -> None:
    desk.changed("config.json", vocab_size=99)


def _another_tokenizer(desk: Desk) -> None:
    tokenizer = json.loads((desk.model / "tokenizer.json").read_text())
    more = {"id": 4000, "content": "<more>", "special": True, "normalized": False,
            "lstrip": False, "rstrip": False, "single_word": False}  # fmt: skip
    vocab = {**tokenizer["model"]["vocab"], "<more>": 4000}
    desk.changed(
        "tokenizer.json",
        added_tokens=[*tokenizer["added_tokens"], more],
        model={**tokenizer["model"], "vocab": vocab},
    )


@pytest.mark.parametrize(
    ("plant", "status", "name", "word"),
    [
        (_lost_system, "wrong", "model template", "system message"),
        (_double_start, "wrong", "model template", "start token twice"),
        (_opened_think, "warning", "model template", "opens <think>"),
        (_cut_questions, "wrong", "model template", "questions out"),
        (_long_prompt, "wrong", "context", "over the model's 1024 positions"),
        (_long_prompt_dropped, "warning", "context", "1024 positions"),
        (_long_rows, "wrong", "context", "longer than max_tokens=12"),
        (_no_such_stop, "wrong", "model files", "no single token"),
        (_far_end, "wrong", "model files", "end token 5000"),
        (_fewer_layers, "wrong", "model files", "vocab_size 99"),
        (_another_tokenizer, "wrong", "model files", "not of one model"),
    ],
)
def test_model(
    desk: Desk, plant: Callable[[Desk], None], status: Status, name: str, word: str
) -> None:
    plant(desk)
    checks = {check.name: check for check in desk.of_model() if check.status != "fine"}
    assert checks[name].status == status
    assert word in checks[name].why
    assert checks[name].fix


def test_no_template_is_a_warning(desk: Desk) -> None:
    (desk.model / "chat_template.jinja").unlink()
    expect(desk.of_model(), "warning", "model template", "bare lines")


def _bfloat16(desk: Desk) -> None:
    desk.recipe["model"]["dtype"] = "bfloat16"


def _tracker(desk: Desk) -> None:
    desk.recipe["report_to"] = ["trackio"]


def _memory(desk: Desk) -> None:
    desk.recipe["hardware"]["kv_cache_gib"] = 1e6


def _folder(desk: Desk) -> None:
    (desk.folder / "runs").write_text("a file")


@pytest.mark.parametrize(
    ("plant", "status", "name", "word"),
    [
        (_bfloat16, "warning", "precision", "bfloat16 on a CPU"),
        (_tracker, "wrong", "trackio", "none"),
        (_memory, "wrong", "recipe memory", "GiB"),
        (_folder, "wrong", "run folder", "is a file"),
    ],
)
def test_machine_for_a_recipe(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[Desk], None],
    status: Status,
    name: str,
    word: str,
) -> None:
    monkeypatch.setattr(recipe_checks, "version_of", lambda _: None)
    plant(desk)
    expect(desk.of_recipe(), status, name, word)


def test_a_full_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil._ntuple_diskusage(10, 10, 0)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(recipe_checks.shutil, "disk_usage", lambda _: full)
    expect(desk.of_recipe(), "wrong", "run folder", "of 0.0 free")


def test_programs_without_isolation_and_without_their_language(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = {"language": "javascript"}
    desk.recipe["rewards"]["code"] = {"use": "builtin:code_tests", "args": args}
    monkeypatch.setattr(recipe_checks, "on_this_machine", lambda: {"javascript": None})
    expect(desk.of_recipe(), "wrong", "programs", "javascript, which is not installed")
    monkeypatch.setattr(recipe_checks, "on_this_machine", lambda: {"javascript": "/node"})
    expect(desk.of_recipe(isolated=False), "wrong", "programs", "nothing isolates them")
    args["isolation"] = "none"
    assert not [check for check in desk.of_recipe(isolated=False) if check.status != "fine"]


def test_rays_token(tmp_path: Path) -> None:
    asked = {"RAY_AUTH_MODE": "token"}
    assert ray_token({}, home=tmp_path, joins=True).status == "fine"
    assert ray_token(asked, home=tmp_path).status == "fine"
    expect([ray_token(asked, home=tmp_path, joins=True)], "wrong", "ray token", "auth_token")
    named = {**asked, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    expect([ray_token(named, home=tmp_path)], "wrong", "ray token", "none in")
    (tmp_path / "token").write_text(" \n")
    expect([ray_token(named, home=tmp_path)], "wrong", "ray token")
    (tmp_path / "token").write_text("secret\n")
    assert ray_token(named, home=tmp_path, joins=True).status == "fine"
    assert "secret" not in ray_token(named, home=tmp_path).why


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = shutil._ntuple_diskusage(2**26, 0, 2**26)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: docker)
    expect(list(shared_memory(tmp_path)), "warning", "shared memory", "0.062 GiB")
    assert not list(shared_memory(tmp_path / "absent"))


def test_gpus_that_are_not_there() -> None:
    seen = {"why": "CUDA devices: 0", "count": 0}
    assert gpu_check(seen, wanted=0).status == "fine"
    expect([gpu_check(seen, wanted=2)], "wrong", "gpus", "wants 2, torch sees 0")


def test_a_plugin_that_engines_do_not_see() -> None:
    loaded = {"why": "loads"}
    assert plugin_check(loaded, {}, needed=True).status == "fine"
    assert plugin_check(loaded, {"VLLM_PLUGINS": "x,stepwell"}, needed=True).status == "fine"
    without = {"VLLM_PLUGINS": "lora_filesystem_resolver"}
    expect([plugin_check(loaded, without, needed=True)], "wrong", "vllm plugin", "leaves it out")
    expect([plugin_check({"error": "gone"}, {}, needed=False)], "warning", "vllm plugin", "gone")


def test_libraries_that_break_and_that_end_their_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("raise OSError('libcudart.so.13: cannot open')\n")
    (tmp_path / "deadly_library.py").write_text("import os\nos._exit(7)\n")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    said = Trial.started(["packaging", "broken_library", "deadly_library", "yaml"]).answers()
    checks = [library_check(name, one) for name, one in said.items()]
    assert [check.status for check in checks] == ["fine", "wrong", "wrong", "wrong"]
    assert "libcudart" in checks[1].why
    assert "exit code 7" in checks[2].why


@pytest.mark.parametrize(
    ("scores", "status", "word"),
    [
        ([[0.0, 0.0], [0.0, 0.0]], "warning", "never earns"),
        ([[1.0, 1.0], [1.0, 1.0]], "warning", "earns them all"),
        ([[0.0, 0.0], [1.0, 1.0]], "warning", "samples_per_prompt"),
        ([[0.0, 1.0], [1.0, 1.0]], "fine", ""),
        ([[1.0, None], [1.0, 1.0]], "warning", "earns them all"),
        ([[None, None], [0.0, 1.0]], "fine", ""),
        ([[None, None], [None, None]], "warning", "no reward could tell"),
    ],
)
def test_a_signal(scores: list[list[float | None]], status: Status, word: str) -> None:
    check = signal_check("reason", {"answer": scores}, {"answer": 0.5}, cut=0)
    unscored = sum(value is None for group in scores for value in group)
    assert check.status == status
    assert word in check.fix
    assert (f"{unscored} could not be scored" in check.why) == bool(unscored)


def test_a_signal_of_two_rewards_is_their_weighted_sum() -> None:
    scores = {"answer": [[0.0, 1.0]], "brief": [[1.0, 0.0]]}
    assert signal_check("r", scores, {"answer": 1.0, "brief": 1.0}, cut=0).status == "warning"
    check = signal_check("r", scores, {"answer": 1.0, "brief": 0.5}, cut=0)
    assert check.status == "fine"
    assert "answer 0.50, brief 0.50" in check.why
