"""``builtin:math_answer``: is the one final answer of a completion equal to the gold?"""

from __future__ import annotations

import re

from rewards.api import Reward, Sample, any_gold, reward
from rewards.box_context import changed_beside
from rewards.final_answer import FinalAnswer, answer_in, final_answer
from rewards.math_compare import Decision, compare
from rewards.retraction import taken_back

MAX_OTHERS = 30
"""So many values in the prose after an answer are compared with it; one more is another."""
_ESCAPES = {"\t": "\\t", "\f": "\\f", "\b": "\\b", "\r": "\\r", "\v": "\\v"}
_ESCAPED = re.compile(
    "\t(?=ext\\b|imes\\b|heta\\b|an\\b|frac|riangle)|\f(?=rac|box)|\b(?=oxed|egin|inom|eta\\b|ar\\b)"
    "|\r(?=ight|angle|ho\\b)|\v(?=ec\\b|ar)"
)

_BOLD = re.compile(r"\s*\*\*([^*]+)\*\*\.?\s*")

VERDICTS = (
    "correct", "wrong", "no_answer", "several_answers", "unparsable", "too_complex", "timeout",
    "no_gold",
)  # fmt: skip


@reward(
    version="5",
    isolation="process",
    cpu_s=2.0,
    memory_mb=384,
    deterministic=True,
    timeout_value=0.0,
    verdicts=VERDICTS,
)
@any_gold
def math_answer(sample: Sample, *, worked_out: bool = False) -> Reward:
    """1.0 when the completion's one final answer equals the gold, or any of several, else 0.0.

    The gold may be written as in GSM8K (``... #### 42``), between dollar signs, boxed, or bare.
    ``detail`` tells what was extracted and how, what was compared, and the rule that decided.

    Args:
        worked_out: refuse sums, products and powers of numbers where the gold is one number, so
            that ``16 - 7`` does not pass for 9. Integrals, limits and the like never pass.

    Verdicts: correct, wrong, no_answer, several_answers, unparsable, too_complex, timeout, and
    no_gold, which is not scored.
    """
    if sample.gold is None or not sample.gold.strip():
        return Reward(value=None, verdict="no_gold")
    final = final_answer(sample)
    gold = gold_text(sample.gold)
    if (
        final.text is None
        and final.several
        and all(
            compare(gold, text, worked_out=worked_out).verdict == "correct"
            for text in final.several
        )
    ):
        final = final._replace(text=final.several[-1])  # one value, written in several ways
    if final.text is None:
        return Reward(value=0.0, verdict=final.problem, detail={"rule": final.how})
    decision = compare(gold, final.text, worked_out=worked_out)
    if decision.verdict == "correct":
        words = _taken_back(final)
        if words is not None:
            decision = Decision("several_answers", f"taken back: {words[:100]!r}")
    detail = {
        "found": final.how,
        "answer": final.text[:500],
        "gold": gold[:500],
        "rule": decision.rule,
    }
    return Reward(
        value=float(decision.verdict == "correct"), verdict=decision.verdict, detail=detail
    )


def _taken_back(final: FinalAnswer) -> str | None:
    """The words around an answer that take it back or make another one of it, or None."""
    answer = final.text or ""
    if final.how == "boxed":
        beside = changed_beside(final.before, final.after)
        if beside is not None:
            return beside
    known: dict[str, bool] = {}

    def same(value: str) -> bool:
        if value not in known:
            few = len(known) < MAX_OTHERS
            known[value] = few and compare(answer, value).verdict == "correct"
        return known[value]

    return taken_back(final.before, answer, final.after, same=same)


def gold_text(gold: str) -> str:
    """The answer itself in a gold written as in GSM8K, boxed or bare.

    A backslash that some JSON writer took for an escape is put back: a tab before ``ext`` was
    ``\\text``.
    """
    if not gold.isprintable():
        gold = _ESCAPED.sub(lambda match: _ESCAPES[match[0]], gold)
    if "####" in gold:
        return gold.rpartition("####")[2].strip()
    if "\\boxed" in gold or "\\fbox" in gold:
        return answer_in(gold).text or gold.strip()
    bold = _BOLD.fullmatch(gold) if "**" in gold else None
    return bold[1].strip() if bold else gold.strip()
