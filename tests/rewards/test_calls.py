"""A reward is called as often as its form says, whatever it raises and in whatever words."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewards import Pool, Reward, Sample
from rewards.forms import RewardFunction, recognise

SAMPLES = [Sample(prompt=f"{n}?", completion=str(n), gold=str(n), id=f"s{n}") for n in range(3)]
FORMS = {
    "sample": "sample",
    "batch": "samples",
    "trl": "prompts, completions, **kwargs",
    "trl_gold": "completions, answer",
    "trl_messages": "completions: list[list[dict[str, str]]], **kwargs",
    "verl": "data_source, solution_str, ground_truth, extra_info=None",
    "verl_batch": "data_sources, solution_strs, ground_truths, extra_infos",
    "openrlhf": "queries, prompts, labels",
}
A_SAMPLE = ("sample", "verl")
FAULTS = [
    TypeError("string indices must be integers, not 'str'"),
    TypeError("list indices must be integers or slices, not str"),
    TypeError("f() got an unexpected keyword argument 'x'"),
    TypeError("f() missing 1 required positional argument: 'x'"),
    TypeError("object list can't be used in 'await' expression"),
    TypeError("'coroutine' object is not iterable"),
    KeyError("content"),
    IndexError("string index out of range"),
    AttributeError("'str' object has no attribute 'get'"),
    asyncio.InvalidStateError("not finished"),
    RuntimeError("asyncio.run() cannot be called from a running event loop"),
    StopIteration(),
]


def function(name: str, *, later: bool, body: Callable[[], Any]) -> RewardFunction:
    """A reward of that form which does as `body` says."""
    space = {"body": body}
    exec(f"{'async ' * later}def f({FORMS[name]}):\n    return body()\n", space)
    return recognise(space["f"], ref="mine.py:f")  # type: ignore[arg-type]


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("name", FORMS)
def test_as_many_calls_as_the_form_has(name: str, later: bool) -> None:
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return 1.0 if name in A_SAMPLE else [1.0] * len(SAMPLES)

    rewards = function(name, later=later, body=body)(SAMPLES)
    assert [reward.value for reward in rewards] == [1.0, 1.0, 1.0]
    assert len(calls) == (len(SAMPLES) if name in A_SAMPLE else 1)


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_what_it_raises_is_its_own_and_ends_it(name: str, later: bool, fault: Exception) -> None:
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        raise fault

    rewards = function(name, later=later, body=body)(SAMPLES)
    assert len(calls) == 1
    assert {reward.verdict for reward in rewards} == {"infra_error"}
    if later and isinstance(fault, StopIteration):
        return  # no coroutine can raise it; Python makes a RuntimeError of it
    said = f"raised {type(fault).__name__}: {fault}"
    assert all(said in reward.detail["error"] for reward in rewards)


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    "result",
    [None, 7, "text", [1.0], {"rewards": 3}, object()],
    ids=["None", "7", "text", "list", "dict", "object"],
)
def test_a_wrong_result_is_no_reason_to_ask_again(name: str, later: bool, result: Any) -> None:
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return result

    rewards = function(name, later=later, body=body)(SAMPLES)
    assert len(rewards) == len(SAMPLES)
    assert len(calls) == (len(SAMPLES) if name in A_SAMPLE else 1)


@pytest.mark.parametrize("name", ["sample", "batch", "trl_gold", "verl", "openrlhf"])
def test_arguments_that_do_not_fit_are_told_before_any_call(name: str) -> None:
    calls: list[int] = []
    space: dict[str, Any] = {"calls": calls}
    exec(f"def f({FORMS[name]}, *, factor):\n    calls.append(1)\n", space)
    wrapped = recognise(space["f"], ref="mine.py:f")
    (reward, *_) = wrapped(SAMPLES)
    assert reward.verdict == "infra_error"
    assert "cannot be called: missing a required" in reward.detail["error"]
    assert "'factor'" in reward.detail["error"]
    assert not calls
    wrapped(SAMPLES, factor=2)
    assert len(calls) == (len(SAMPLES) if name in A_SAMPLE else 1)


def test_a_reward_object_that_cannot_be_read_is_a_fault() -> None:
    class Odd:
        def tolist(self) -> float:
            raise TypeError("string indices must be integers")

    calls: list[int] = []

    def judge(sample: Sample) -> Any:
        calls.append(1)
        return Odd()

    (reward,) = recognise(judge, ref="r")(SAMPLES[:1])
    assert reward.verdict == "infra_error"
    assert len(calls) == 1


COUNTED = """
from pathlib import Path

CALLS = Path(__file__).with_name("calls")

def counted(sample):
    with CALLS.open("a") as calls:
        calls.write("x")
    return "text"[sample.completion]

def in_trl(completions, **kwargs):
    with CALLS.open("a") as calls:
        calls.write("x")
    return [float(read(c)) for c in completions]

def read(completion):
    return completion[0]["content"] == "1"

def here(sample):
    return counted(sample)

here.isolation = "inline"
"""


@pytest.mark.parametrize("name", ["counted", "in_trl", "here"])
def test_the_pool_calls_a_failing_reward_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text(COUNTED)
    with Pool(1) as pool:
        pool.describe(f"mine.py:{name}", base=tmp_path)
        reward = pool.submit(f"mine.py:{name}", SAMPLES[1], base=tmp_path).result()
    assert "raised TypeError: string ind" in reward.detail["error"]
    assert (tmp_path / "calls").read_text() == "x"


def by_annotation(completions: list[list[dict[str, str]]], **kwargs: Any) -> list[float]:
    return [float(type(completion) is list) for completion in completions]


def by_words(completions: "list[list[Message]]", **kwargs: Any) -> list[float]:  # type: ignore[name-defined]  # noqa: F821
    return by_annotation(completions)


def by_source(completions, **kwargs):  # noqa: ANN001, ANN003, ANN201
    return [float(completion[0]["content"] == "1") for completion in completions]


def by_both(completions, **kwargs):  # noqa: ANN001, ANN003, ANN201
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [float(text == "1") for text in texts]


def by_number(prompts, completions):  # noqa: ANN001, ANN201
    questions = [prompts[i][-1]["content"] for i in range(len(prompts))]
    return [float(question == "1?") for question in questions]


class Callable_:
    def __call__(self, completions, **kwargs):  # noqa: ANN001, ANN003, ANN204
        return by_source(completions) if completions[0][0]["role"] == "assistant" else [0.0]


def text(completions: list[str], **kwargs: Any) -> list[float]:
    return [float(completion == "1") for completion in completions]


def judge_by_request(completions, **kwargs):  # noqa: ANN001, ANN003, ANN201
    def reply_to(messages: list[dict[str, str]]) -> dict[str, Any]:
        return {"choices": [{"message": messages[0]}]}

    replies = [reply_to([{"role": "user", "content": c}]) for c in completions]
    return [float(reply["choices"][0]["message"]["content"] == "1") for reply in replies]


def unannotated(completions, **kwargs):  # noqa: ANN001, ANN003, ANN201
    return [float(completion == "1") for completion in completions]


@pytest.mark.parametrize(
    ("judge", "messages"),
    [
        (by_annotation, True),
        (by_words, True),
        (by_source, True),
        (by_both, True),
        (by_number, True),
        (Callable_(), True),
        (text, False),
        (judge_by_request, False),
        (unannotated, False),
        (len, None),
    ],
)
def test_text_or_messages_is_told_without_a_call(judge: Any, messages: bool | None) -> None:
    if messages is None:
        assert recognise(judge, ref="r").form == "sample"
        return
    wrapped = recognise(judge, ref="r")
    assert (wrapped.form, wrapped.messages) == ("trl", messages)
    assert wrapped(SAMPLES[1:2]) == [Reward(value=1.0, verdict="scored")]


def test_trl_functions_that_read_messages_in_a_helper_are_told_how_to_say_so() -> None:
    def helper(completion: Any) -> str:
        return completion[0].content

    (reward, *_) = recognise(lambda completions: [helper(c) for c in completions], ref="r")(SAMPLES)
    assert "annotate completions: list[list[dict[str, str]]]" in reward.detail["error"]
