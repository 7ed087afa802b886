"""Every signature that is recognised, and what each is given."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewards import Reward, Sample, resolve, reward
from rewards.forms import recognise
from rewards.registry import BUILTINS

SAMPLES = [
    Sample(prompt="2+2?", completion="4", gold="4", columns={"data_source": "toy", "level": 1}),
    Sample(prompt="2+3?", completion="6", gold="5", columns={"data_source": "toy", "level": 2}),
]


def per_sample(sample: Sample) -> float:
    return float(sample.completion == sample.gold)


def batch(samples: list[Sample]) -> list[float]:
    return [per_sample(sample) for sample in samples]


async def later(sample: Sample) -> float:
    return per_sample(sample)


async def later_batch(samples: list[Sample]) -> list[float]:
    return batch(samples)


def trl(prompts: Any, completions: Any, solution: Any, level: Any, **kwargs: Any) -> list[float]:
    assert prompts == ["2+2?", "2+3?"]
    assert level == [1, 2]
    assert kwargs["data_source"] == ["toy", "toy"]
    return [float(c == s) for c, s in zip(completions, solution, strict=True)]


def trl_chat(completions: Any, solution: Any) -> list[float]:
    texts = [completion[0]["content"] for completion in completions]
    return [float(c == s) for c, s in zip(texts, solution, strict=True)]


def verl(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> Any:
    assert data_source == "toy"
    return {"score": float(solution_str == ground_truth), "level": extra_info["level"]}


def verl_batch(data_sources: Any, solution_strs: Any, ground_truths: Any, extra_infos: Any) -> Any:
    return [float(a == b) for a, b in zip(solution_strs, ground_truths, strict=True)]


def openrlhf(queries: list[str], prompts: list[str], labels: list[str]) -> Any:
    answers = [q.removeprefix(p) for q, p in zip(queries, prompts, strict=True)]
    return {"rewards": [float(a == b) for a, b in zip(answers, labels, strict=True)]}


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (per_sample, "sample"),
        (batch, "batch"),
        (later, "async sample"),
        (later_batch, "async batch"),
        (trl, "trl"),
        (trl_chat, "trl"),
        (verl, "verl"),
        (verl_batch, "verl_batch"),
        (openrlhf, "openrlhf"),
    ],
)
def test_recognised_and_called(function: Any, form: str) -> None:
    wrapped = recognise(function, ref="here:f")
    assert wrapped.form == form
    assert [reward.value for reward in wrapped(SAMPLES)] == [1.0, 0.0]


def test_verl_numbers_become_metrics() -> None:
    assert recognise(verl, ref="r")(SAMPLES)[1].metrics == {"level": 2.0}


def test_trl_functions_of_the_library_work_as_they_stand() -> None:
    pytest.importorskip("trl")
    from trl.rewards.format_rewards import think_format_reward

    sample = Sample(prompt="?", completion="<think>a</think>b")
    assert recognise(think_format_reward, ref="trl")([sample])[0].value == 1.0


def test_messages_column_is_conversational() -> None:
    asked = [{"role": "user", "content": "hello"}]
    seen = []

    def look(prompts: Any, completions: Any) -> list[float]:
        seen.extend(prompts + completions)
        return [1.0]

    recognise(look, ref="r")([Sample(prompt="?", completion="x", columns={"messages": asked})])
    assert seen == [asked, [{"role": "assistant", "content": "x"}]]


def test_no_parameters_is_refused() -> None:
    with pytest.raises(TypeError, match="a reward takes"):
        recognise(lambda: 1.0, ref="here:f")


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (np.float32("nan"), "nan"),
        (np.float64("inf"), "inf"),
        (np.array(np.inf), "inf"),
        (torch.tensor(float("nan")), "nan"),
        (torch.tensor(float("inf"), dtype=torch.bfloat16), "inf"),
        (10**400, "inf"),
        (-(10**400), "-inf"),
        (Reward(value=np.float32("nan"), verdict="x"), "nan"),  # type: ignore[arg-type]
        (Reward(value=10**400, verdict="x"), "inf"),
        ({"score": float("nan")}, "nan"),
        ({"score": np.float32("inf"), "level": 10**400}, "inf"),
    ],
)
def test_no_number_is_a_fault_that_names_reward_sample_and_value(result: Any, value: str) -> None:
    samples = [Sample(prompt="", completion="", id=name) for name in ("row-7/0", "row-7/1")]
    alone = recognise(lambda sample: result, ref="mine.py:f")(samples[:1])
    among = recognise(lambda samples: [result, 1.0], ref="mine.py:f")(samples)
    for fault in (alone[0], among[0]):
        assert (fault.value, fault.verdict) == (None, "infra_error")
        assert "reward mine.py:f, sample 'row-7/0': gave value" in fault.detail["error"]
        assert f"= {value}, where a finite number was due" in fault.detail["error"]
    assert among[1].value == 1.0


@pytest.mark.parametrize(
    "result",
    [
        Reward(value=float("nan"), verdict="x"),
        Reward(value=1.0, verdict="x", metrics={"m": float("inf")}),
        Reward(value="1", verdict="x"),  # type: ignore[arg-type]
        Reward(value=1.0, verdict=3),  # type: ignore[arg-type]
        [1.0],
        {"reward": 1},
        1j,
    ],
)
def test_no_reward_is_a_fault(result: Any) -> None:
    sample = Sample(prompt="", completion="", id="row-7")
    (reward,) = recognise(lambda sample: result, ref="mine.py:f")([sample])
    assert (reward.value, reward.verdict) == (None, "infra_error")
    assert "mine.py:f" in reward.detail["error"]
    assert "row-7" in reward.detail["error"]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (Reward(value=1.0, verdict="fine"), "fine"),
        (1.0, "scored"),
        (None, "not_scored"),
        (Reward(value=1.0, verdict="splendid"), "infra_error"),
    ],
)
def test_declared_verdicts_are_a_closed_set(result: Any, verdict: str) -> None:
    @reward(verdicts=("fine", "poor"))
    def judge(sample: Sample) -> Any:
        return result

    (found,) = recognise(judge, ref="mine.py:judge")([Sample(prompt="", completion="", id="row-7")])
    assert found.verdict == verdict
    if verdict == "infra_error":
        for part in ("mine.py:judge", "row-7", "'splendid'", "fine, poor"):
            assert part in found.detail["error"]


def test_wrong_declarations_are_refused() -> None:
    with pytest.raises(TypeError, match="sequence of texts, not 'fine'"):
        reward(verdicts="fine")


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_built_ins_are_held_to_their_verdicts(name: str) -> None:
    function = resolve(f"builtin:{name}")
    assert function.traits.verdicts
    words = function.function.__doc__ or ""
    if name != "cosine_length":  # it refers to math_answer's
        assert all(verdict in words for verdict in function.traits.verdicts)
    other = replace(function, function=lambda sample: Reward(value=1.0, verdict="other"))
    (found,) = other([Sample(prompt="", completion="")])
    assert (found.value, found.verdict) == (None, "infra_error")
    assert "'other'" in found.detail["error"]


def test_numpy_numbers_count_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    sample = Sample(prompt="", completion="")
    for result in (numpy.float32(0.5), numpy.array(0.5)):
        assert recognise(lambda sample, r=result: r, ref="r")([sample])[0].value == 0.5
    assert recognise(lambda samples: numpy.array([0.5]), ref="r")([sample])[0].value == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("{}['x']", "raised KeyError: 'x' (words.py, line 3)"),
        ("import helper; helper.fail()", "raised ValueError: no (helper.py, line 2)"),
        ("import json; json.loads('?')", "(words.py, line 3)"),
    ],
)
def test_what_raises_is_named_with_its_line(
    call: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of the user's own code, wherever it called."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "helper.py").write_text("def fail():\n    raise ValueError('no')\n")
    (tmp_path / "words.py").write_text(f"\ndef score(sample):\n    {call}\n")
    function = resolve("words.py:score", base=tmp_path)
    (result,) = function([replace(SAMPLES[0], id="p/3")])
    assert result.value is None
    error = result.detail["error"]
    assert "sample 'p/3'" in error
    assert message in error


@pytest.mark.parametrize(
    ("name", "completion", "golds"),
    [
        ("math_answer", "\\boxed{4}", ("5", "2+2", "4.0")),
        ("exact_match", "four", ("4", "four")),
        ("choice", "The answer is (b).", ("A", "B")),
    ],
)
def test_any_of_several_golds_is_right(name: str, completion: str, golds: tuple[str, ...]) -> None:
    function = resolve(f"builtin:{name}")
    sample = Sample(prompt="", completion=completion, gold=golds[0], golds=golds)
    none_right = replace(sample, golds=golds[:1])
    right, wrong = function([sample, none_right])
    assert (right.value, right.verdict) == (1.0, "correct")
    assert (wrong.value, wrong.verdict) == (0.0, "wrong")


def test_other_libraries_functions_are_given_the_list_of_golds() -> None:
    def trl(completions: list[str], answer: list[Any], **_: Any) -> list[float]:
        return [float(c in a) for c, a in zip(completions, answer, strict=True)]

    def verl(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any) -> float:
        return float(solution_str in ground_truth)

    sample = Sample(prompt="", completion="four", gold="4", golds=("4", "four"))
    for function in (trl, verl):
        assert recognise(function, ref="x")([sample])[0].value == 1.0


def test_a_conversation_is_given_without_the_answer_that_its_row_ends_with() -> None:
    def reads(prompts: list[list[dict[str, str]]], completions: list[Any]) -> list[float]:
        assert [turn["role"] for turn in prompts[0]] == ["user"]
        return [1.0]

    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "gold"}]
    sample = Sample(prompt="?", completion="a", columns={"messages": turns})
    (reward,) = recognise(reads, ref="x")([sample])
    assert reward.value == 1.0, reward.detail


def test_rows_made_for_verl_have_their_own_extra_info() -> None:
    def verl(data_source: str, solution_str: str, ground_truth: str, extra_info: Any) -> float:
        return float((extra_info["index"], extra_info["level"]) == (3, 1))

    columns = {"level": 1, "extra_info": {"index": 3}}
    sample = Sample(prompt="", completion="", gold="", columns=columns)
    assert recognise(verl, ref="x")([sample])[0].value == 1.0
