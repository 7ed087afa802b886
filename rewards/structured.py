"""Rewards for answers with a given form: a choice's letter, JSON, a reasoning-gym task's answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rewards.api import Reward, Sample, any_gold, reward
from rewards.final_answer import final_answer
from rewards.text_format import reasoning_and_answer

FAULTY_GYM_SCORERS: Mapping[str, str] = {
    "game_of_life_halting": 'its scorer pays wrong answers ("definitely wrong" gets full marks)',
    "boxnet": "its scorer gives its own answer 0",
    "graph_color": "its scorer gives its own answer 0",
    "propositional_logic": "its scorer gives its own answer 0",
    "rubiks_cube": "its scorer gives its own answer 0",
    "rush_hour": "its scorer gives its own answer 0",
    "arc_agi": "its scorer compares Python tuples, which a JSON row does not keep",
    "rearc": "its scorer compares Python tuples, which a JSON row does not keep",
}
"""Tasks of reasoning-gym 0.1.25 whose scorers cannot be trusted."""

_LETTER = re.compile(
    r"\W{0,10}(?:(?:option|choice|answer)\s{1,3})?\(?([A-Za-z])(?:[).:\]]|\W|$)", re.I
)
_UNWRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@reward(
    version="1",
    isolation="inline",
    deterministic=True,
    verdicts=("correct", "wrong", "no_answer", "several_answers", "no_gold"),
)
@any_gold
def choice(sample: Sample, *, letters: str = "ABCDE") -> Reward:
    """1.0 when the one final answer is the gold's letter: ``B``, ``(B)``, ``B. Paris``.

    Args:
        letters: the letters there are to choose from.

    Verdicts: correct, wrong, no_answer, several_answers, no_gold (not scored).

    >>> choice(Sample(prompt="", completion="The answer is (b).", gold="B")).value
    1.0
    """
    gold = _letter(sample.gold or "", letters)
    if gold is None:
        return Reward(value=None, verdict="no_gold")
    final = final_answer(sample)
    if final.text is None:
        return Reward(value=0.0, verdict=final.problem, detail={"rule": final.how})
    letter = _letter(final.text, letters)
    if letter is None:
        return Reward(value=0.0, verdict="no_answer", detail={"answer": final.text[:200]})
    verdict = "correct" if letter == gold else "wrong"
    return Reward(value=float(letter == gold), verdict=verdict, detail={"answer": letter})


def _letter(text: str, letters: str) -> str | None:
    text = _UNWRAPPED.sub(r"\1", text[:300].strip())
    match = _LETTER.match(text)
    if match is None:
        return None
    letter, after = match[1].upper(), text[match.end(1) : match.end(1) + 1]
    alone = match.end() >= len(text) or after in (")", "]", ".", ":")
    return letter if letter in letters.upper() and alone else None


@reward(
    version="1",
    isolation="process",
    cpu_s=5.0,
    deterministic=True,
    timeout_value=0.0,
    verdicts=("fits", "does_not_fit", "not_json", "no_answer"),
)
def json_schema(sample: Sample, *, schema: Mapping[str, Any]) -> Reward:
    """1.0 when what follows the reasoning is one JSON document that fits `schema`.

    The document may stand in one fenced block. Duplicate keys, NaN and infinities are no JSON.

    Args:
        schema: a JSON schema, by default of draft 2020-12.

    Verdicts: fits, does_not_fit, not_json, no_answer.
    """
    from jsonschema.validators import validator_for  # slow to import, so only where it runs

    text = reasoning_and_answer(sample)[1].strip()
    blocks = _FENCE.findall(text)
    if len(blocks) == 1:
        text = blocks[0]
    if not text:
        return Reward(value=0.0, verdict="no_answer")
    try:
        document = json.loads(text, parse_constant=_refuse, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        return Reward(value=0.0, verdict="not_json", detail={"rule": str(error)[:200]})
    validator = validator_for(schema)(schema)
    error = next(iter(validator.iter_errors(document)), None)
    if error is None:
        return Reward(value=1.0, verdict="fits")
    return Reward(value=0.0, verdict="does_not_fit", detail={"rule": error.message[:200]})


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key occurs twice")
    return document


@reward(
    version="1",
    isolation="process",
    cpu_s=10.0,
    deterministic=True,
    timeout_value=0.0,
    verdicts=("correct", "partly", "wrong", "no_answer"),
)
def gym(sample: Sample, *, task: str | None = None) -> Reward:
    """The score of reasoning-gym's own scorer for the answer after the reasoning, from 0 to 1.

    The row's columns hold ``gym``, the task's name, and ``entry``, what its scorer takes. The
    answer is what stands in ``<answer>`` tags or a box, else the whole text.

    Args:
        task: the task's name, for rows without the column.

    Raises:
        ValueError: for a task whose scorer is known to be faulty, and for rows without columns.

    Verdicts: correct, partly, wrong, no_answer.
    """
    name, entry = task or sample.columns.get("gym"), sample.columns.get("entry")
    if not isinstance(name, str) or entry is None:
        raise ValueError("reasoning-gym rows need the columns gym and entry")
    if name in FAULTY_GYM_SCORERS:
        raise ValueError(f"reasoning-gym's {name} is refused: {FAULTY_GYM_SCORERS[name]}")
    entry = json.loads(entry) if isinstance(entry, str) else entry
    answer = _gym_answer(sample)
    if not answer:
        return Reward(value=0.0, verdict="no_answer")
    import reasoning_gym  # slow to import, so only where it runs

    score = float(reasoning_gym.get_score_answer_fn(name)(answer, entry))  # type: ignore[call-arg]
    verdict = "correct" if score >= 1 else "partly" if score > 0.01 else "wrong"
    return Reward(value=min(max(score, 0.0), 1.0), verdict=verdict, detail={"answer": answer[:300]})


def _gym_answer(sample: Sample) -> str:
    text = reasoning_and_answer(sample)[1].strip()
    tagged = _TAGGED.findall(text)
    if tagged:
        return tagged[-1].strip()
    if "\\boxed" in text:
        return final_answer(sample).text or ""
    return text
