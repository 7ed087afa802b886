"""``builtin:math_answer`` on labelled data, adversarial input and its own rules."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewards
from rewards import Pool, Reward, Sample
from rewards.final_answer import _boxes, answer_in, closing_brace, final_answer
from rewards.math_answer import VERDICTS, math_answer
from rewards.math_compare import compare
from tests.rewards.cpu_budget import within_the_budget

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")


def sample(completion: str, gold: str | None = "7", **fields: object) -> Sample:
    return Sample(**({"prompt": "Q"} | fields), completion=completion, gold=gold)  # type: ignore[arg-type]


def scored(rows: Sequence[dict], workers: int = 1) -> list[Reward]:
    samples = [sample(row["pred"], row["gold"], id=row["id"]) for row in rows]
    return rewards.score("builtin:math_answer", samples, workers=workers)


def precision_recall(rows: Sequence[dict], results: Sequence[Reward]) -> tuple[float, float]:
    pairs = [
        (row["expected"], result.value == 1.0) for row, result in zip(rows, results, strict=True)
    ]
    right = sum(expected and paid for expected, paid in pairs)
    return right / sum(paid for _, paid in pairs), right / sum(expected for expected, _ in pairs)


@pytest.mark.parametrize(
    ("completion", "text", "how"),
    [
        ("\\boxed{7}", "7", "boxed"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}", "boxed"),
        ("\\boxed{7} and again \\boxed{ 7 }", "7", "boxed"),
        ("\\boxed{1}, \\boxed{2}", "1, 2", "boxed"),
        ("<think>\\boxed{6}</think>\\boxed{7}", "7", "boxed"),
        ("<think>the answer is 6</think>The answer is 7.", "7", "answer is"),
        ("**Answer:** $\\frac{1}{2}$ because", "\\frac{1}{2}", "answer is"),
        ("She sells 2.\nA: 18", "18", "answer is"),
        ("16 - 7 = 9\n#### 9", "9", "answer is"),
        ("7", "7", "bare"),
        ("We add both.\n\nx = 7.", "x = 7", "bare"),
        ("Therefore she makes 18 dollars every day.", "18", "number in the text"),
        ("Hence the limit equals $e^2$.", "e^2", "stated in the text"),
        ("The smallest such $n$ is $12$.", "12", "stated in the text"),
        ("There are 5 solutions, namely 1, 2, 3, 4 and 6.", "5", "stated in the text"),
        ("The maximum of $x + y$ is 12, attained at $x = 4$.", "12", "stated in the text"),
        ("Is the answer 7? The answer is 7? No.\nThe answer is 8.", "8", "answer is"),
        ("We see that $e^2$ is the limit.", "e^2", "formula in the text"),
        ("The answer is $\\$18.90$.", "\\$18.90", "answer is"),
        ("It costs \\$5 and the answer is $\\$ 7$.", "\\$ 7", "answer is"),
    ],
)
def test_extraction(completion: str, text: str, how: str) -> None:
    found = final_answer(sample(completion))
    assert (found.text, found.how) == (text, how)


@pytest.mark.parametrize(
    ("completion", "problem"),
    [
        ("It is 12 or it is 13, and nothing else is 14.", "several_answers"),
        ("The smallest is 12 and the largest is 20.", "several_answers"),
        ("", "no_answer"),
        ("<think>7", "no_answer"),
        ("<think>7</think>", "no_answer"),
        ("\\boxed{}", "no_answer"),
        ("\\boxed{7} Wait, that is wrong. \\boxed{8}", "several_answers"),
        ("The answer is 7. No, the answer is 8.", "several_answers"),
        ("My best guesses are 1, 2, 3, 4, 5, 6, 7", "several_answers"),
    ],
)
def test_nothing_to_extract(completion: str, problem: str) -> None:
    assert final_answer(sample(completion)).problem == problem
    assert math_answer(sample(completion)).verdict == problem


def test_template_that_opens_the_reasoning() -> None:
    assert math_answer(sample("7", prompt="Q <think>\n")).verdict == "no_answer"
    assert math_answer(sample("so 7</think>7", prompt="Q <think>\n")).value == 1.0


@pytest.mark.parametrize("gold", ["7", "$7$", "2 + 5 = 7\n#### 7", "\\boxed{7}", " 7 "])
def test_gold_styles(gold: str) -> None:
    assert math_answer(sample("\\boxed{7}", gold)).value == 1.0


@pytest.mark.parametrize(
    ("answer", "worked_out"),
    [
        ("9", True),
        ("x = 16 - 7 = 9", True),
        ("9.0", True),
        ("9 \\text{ eggs}", True),
        ("18/2", True),
        ("0.9 \\times 10^1", True),
        ("8 \\frac{2}{2}", False),
        ("16 - 7", False),
        ("3^2", False),
        ("3 \\cdot 3", False),
        ("\\sqrt{81}", False),
    ],
)
def test_calculations_may_be_refused(answer: str, worked_out: bool) -> None:
    boxed = sample(f"\\boxed{{{answer}}}", "9")
    assert math_answer(boxed, worked_out=True).value == float(worked_out)


def test_no_gold_is_not_scored() -> None:
    assert math_answer(sample("7", None)).value is None


def test_detail_explains() -> None:
    detail = math_answer(sample("\\boxed{14/2}")).detail
    assert detail == {"found": "boxed", "answer": "14/2", "gold": "7", "rule": "exact numbers"}


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("12", "1 2"),
        ("9\\%", "9"),
        ("10\\text{ cm}", "10\\text{ m}"),
        ("4210_7", "4210_8"),
        ("2^{-99}", "2^{-98}"),
        ("0.0000001", "0.0000002"),
        ("(x+1)^{2000}", "(x+1)^{2000}+1"),
        ("0", "2^{-300}"),
        ("4", "\\int_0^2 x^3 dx"),
        ("5", "\\gcd(10, 15)"),
        ("5", "\\sum_{k=1}^5 1"),
        ("1", "\\infty/\\infty"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("1,2", "(2,1)"),
        ("x=5", "y=5"),
        ("\\sqrt{x^2}", "x"),
        ("0", "\\infty - \\infty"),
        ("x \\in [-2,7]", "\\text{not } x \\in [-2,7]"),
        ("[1,3]", "[1,3] \\text{ or } [1,2]"),
        ("2k \\text{ where } k \\in \\mathbb{N}", "2k \\text{ where } k \\in \\mathbb{N}, 8"),
        ("(C)", "(C) or (D)"),
        ("17 \\text{ km/h}", "17 \\text{ m/s}"),
        ("f(n)=2n", "g(n)=2n"),
        ("\\frac{1}{3}", "0.3333"),
        ("5", "__import__('os').system('true')"),
    ],
)
def test_not_equal(gold: str, answer: str) -> None:
    assert compare(gold, answer).verdict != "correct"


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("\\frac{1}{3}", "0.333333"),
        ("6.67", "20:3"),
        ("180.67", "\\frac{542}{3}\\text{ seconds}"),
        ("41.4\\%", "\\sqrt{2}-1"),
        ("5", "2^{10000000000}-2^{10000000000}+5"),
        ("f(z)=z", "f(x)=x"),
        ("a_n = 2n", "2n"),
        ("-2,-2", "a=-2, b=-2"),
        ("[-2,7]", "-2 \\le x \\le 7"),
        ("(\\sqrt{2},0),(-\\sqrt{2},0)", "(\\pm\\sqrt{2}, 0)"),
        ("2x+4y-3=0", "y=-\\frac{1}{2}x+\\frac{3}{4}"),
        ("\\frac{3\\pi}{4}", "135^\\circ"),
        ("1 \\text{ m}", "100 \\text{ cm}"),
        ("6:00 \\text{ p.m.}", "6:00 PM"),
        ("0.1\\overline{6}", "1/6"),
        ("\\frac{1}{x}", "x^{-1}"),
        ("x_1=1, x_2=2", "x=1 \\text{ or } x=2"),
        ("1/3", "33\\frac{1}{3}\\%"),
        ("\\angle A = 60^\\circ", "60^\\circ"),
        ("y = \\frac{1}{x}", "xy=1"),
        ("\\{(1,2)\\}", "(1,2)"),
        ("x = k\\pi, k \\in \\mathbb{Z}", "n\\pi"),
        ("f(x) = 2x \\text{ for all } x > 0", "f(x) = 2x"),
        ("\\mathbb{R}", "(-\\infty, \\infty)"),
        ("(0,1)\\cup(1,2)", "(0,2)\\setminus\\{1\\}"),
        ("\\log_2 3", "\\frac{\\ln 3}{\\ln 2}"),
        ("\\begin{pmatrix}1&2\\end{pmatrix}", "(1,2)"),
        ("x=\\pm 1", "-1, 1"),
        ("1:2", "\\frac{1}{2}"),
    ],
)
def test_equal(gold: str, answer: str) -> None:
    assert compare(gold, answer).verdict == "correct"


@given(st.text(alphabet="0123456789+-*/^_{}()[]|\\,.=<>!%' abxyzpifrcsqtloged$&:", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_verdict(text: str) -> None:
    assert compare("5", text).verdict in VERDICTS
    assert answer_in(text).problem in ("", "no_answer", "several_answers")


@given(st.fractions(), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_fractions_are_compared_exactly(value: object, scale: int) -> None:
    above, below = value.numerator * scale, value.denominator * scale  # type: ignore[attr-defined]
    assert compare(str(value), f"\\frac{{{above}}}{{{below}}}").verdict == "correct"
    assert compare(str(value), f"\\frac{{{above + 1}}}{{{below}}}").verdict == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "9^9^9^9^9",
        "((((10!)!)!)!)",
        "\\prod_{k=1}^{100000} (k^2+1)",
        "$" * 20_000,
        "answer is " * 20_000,
        "\\boxed{" * 5_000,
        "(" * 50_000,
        "{" * 7_000,
        "-" * 7_000 + "5",
        "x^{" * 1_000 + "}" * 1_000,
        "1+" * 3_900 + "1",
        "2" * 3_000 + "^" + "3" * 3_000,
        "\\sqrt{" * 50 + "x" + "}" * 50,
        "5" + "!" * 3_000,
        "\\frac{1}{" * 59 + "1" + "}" * 59,
        "\\exp(\\exp(\\exp(\\exp(\\exp(9)))))",
        ", ".join(f"x+{n}" for n in range(500)),
        "\\sin(10^{10^{9}})",
        "\\binom{10^9}{10^8}",
        "x_" * 3_000,
        "\\text{" + "answer " * 1_000 + "}",
        "9" * 1_000_000,
        "the answer is 8. " * 60_000,
        "\\boxed{" * 140_000,
        "is 8 " * 20_000 + "so they are what they are",
        "there are exactly " * 5_000,
        "x is $a$, " * 3_000 + "that is it",
        "8" + " " * 7_000 + "million",
        "8 million " * 800,
        "\\binom{x}{10^{9}}+e^{3000}",
        "2+e^{-10^{9}}",
        "e^{30000}+8-e^{30000}",
        "\\pm 1\\pm 2," * 300,
        "\\cup".join(f"({n},{n + 1})" for n in range(300)),
        "1<" * 500 + "x",
        "\x00" * 8_000,
        "\ud800" * 8_000,
        "8" + "\u0301" * 5_000,
    ],
)
def test_nothing_takes_long(text: str) -> None:
    with within_the_budget():
        reward = math_answer(sample(text, "5"))
    assert reward.verdict in VERDICTS


def test_hang_is_refused_behind_the_pool() -> None:
    (reward,) = rewards.score("builtin:math_answer", [sample("9^9^9^9^9", "5")])
    assert (reward.value, reward.verdict) == (0.0, "too_complex")
    assert reward.cost.cpu_s < 2


@pytest.mark.parametrize("exponent", ["10^{10}", "10^{9}", "-10^{10}", "10^{10^{10}}"])
def test_a_tower_is_no_fault(exponent: str) -> None:
    """A policy must not be able to mask its own samples."""
    (reward,) = rewards.score("builtin:math_answer", [sample(f"\\boxed{{10^{{{exponent}}}}}", "5")])
    assert reward.value == 0.0
    assert reward.verdict in VERDICTS


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("\\frac{1}{2006!}", "\\frac{1}{2004!}"),
        ("10^{10^{10}}", "0"),
        ("10^{-10^{10}}", "0"),
        ("e^{-1000}", "0"),
        ("2^{-5000}", "0"),
        ("\\frac{1}{9^{10^{6}}}", "\\frac{1}{8^{10^{6}}}"),
    ],
)
def test_small_is_not_zero(answer: str, gold: str) -> None:
    with within_the_budget():
        assert math_answer(sample(f"\\boxed{{{answer}}}", gold)).value == 0.0


def test_our_own_cases() -> None:
    rows = json.loads(Path(__file__).with_name("maths_cases.json").read_text())
    found = {row["id"]: math_answer(sample(row["pred"], row["gold"])) for row in rows}
    wrong = [row for row in rows if (found[row["id"]].value == 1.0) != row["expected"]]
    assert wrong == []
    assert {reward.verdict for reward in found.values()} <= set(VERDICTS)


@needs_data
def test_gsm8k_solutions() -> None:
    lines = (DATA / "verifier/gsm8k_solutions_dev.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert precision_recall(rows, scored(rows)) == (1.0, 1.0)


@given(st.text(alphabet="{}\\a ", max_size=24))
def test_a_box_ends_at_the_brace_that_closes_it(content: str) -> None:
    text = "\\boxed{" + content
    end = closing_brace(text, text.index("{"))
    boxes = _boxes(text)
    assert boxes == ([] if end is None else [(0, end + 1, text[7:end])])


def test_answers_with_the_tokens_of_the_gold_are_judged_as_any_other() -> None:
    assert compare("\\frac{1}{2}", "\\cfrac{1}{2}").verdict == "correct"
    assert compare("\\int_0^1 x dx", "\\int_{0}^1 x dx").verdict == "wrong"


@needs_data
def test_hardverify() -> None:
    lines = (DATA / "verifier/hardverify_dev.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines if "hv-52-neg" not in line]
    precision, recall = precision_recall(rows, scored(rows))
    assert precision >= 0.99
    assert recall >= 0.75


@needs_data
def test_adversarial() -> None:
    cases = json.loads((DATA / "verifier/math_adversarial_dev.json").read_text())
    rows = [row for row in cases if row["expected"] is not None]
    results = scored(rows)
    wrong = [
        row["id"]
        for row, result in zip(rows, results, strict=True)
        if (result.value == 1.0) != row["expected"]
    ]
    assert wrong == []
    assert "infra_error" not in {result.verdict for result in results}
    assert max(result.cost.cpu_s for result in results) < 2


@needs_data
def test_math_golds_equal_themselves() -> None:
    test = (DATA / "math500/test.jsonl").read_text().splitlines()
    golds = [json.loads(line)["answer"] for line in test]
    golds += [row["answer"] for row in json.loads((DATA / "math_train/math.json").read_text())]
    refused = [
        gold
        for gold in golds
        if gold and math_answer(sample(f"\\boxed{{{gold}}}", gold)).value != 1.0
    ]
    assert refused == []


def test_from_an_asyncio_loop() -> None:
    async def ask() -> list[str]:
        futures = [
            pool.submit("builtin:math_answer", sample(f"\\boxed{{{n}}}", "7")) for n in range(20)
        ]
        results = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        return [result.verdict for result in results]

    with Pool(2) as pool:
        verdicts = asyncio.run(ask())
    assert verdicts == ["correct" if n == 7 else "wrong" for n in range(20)]


def chaos(number: int, *, every_s: float) -> None:
    """`number` checks while workers are killed at random must end as they do in peace."""
    chosen = [*itertools.islice(itertools.cycle(CHAOS), number)]
    samples = [sample(answer, gold, id=str(i)) for i, (gold, answer) in enumerate(chosen)]
    calm = [math_answer(one).verdict for one in samples[: len(CHAOS)]]
    done = threading.Event()

    def kill() -> None:
        generator = random.Random(0)
        while not done.wait(every_s * generator.random() * 2):
            workers = [child for child in children(os.getpid()) if "rewards.worker" in child[1]]
            if workers:
                os.kill(generator.choice(workers)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with Pool(2) as pool:
        killer.start()
        futures = [
            pool.submit("builtin:math_answer", replace(one, prompt=str(i)))
            for i, one in enumerate(samples)
        ]
        verdicts = [future.result().verdict for future in futures]
        done.set()
    killer.join()
    assert verdicts == [*itertools.islice(itertools.cycle(calm), number)]


CHAOS = [
    ("7", "\\boxed{7}"),
    ("\\frac{\\sqrt{3}}{3}", "\\boxed{1/\\sqrt{3}}"),
    ("5", "9^9^9^9^9"),
    ("x^2-1", "\\boxed{(x-1)(x+1)}"),
    ("7", "\\boxed{7} no, \\boxed{8}"),
    ("4", "\\boxed{\\int_0^2 x^3 dx}"),
]


def children(parent: int) -> list[tuple[int, str]]:
    """(pid, command line) of a process's children."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append((int(folder.name), (folder / "cmdline").read_text()))
    return found


def test_killed_workers_change_no_verdict() -> None:
    chaos(1_000, every_s=1.0)


@pytest.mark.slow
def test_killed_workers_change_no_verdict_of_ten_thousand() -> None:
    chaos(10_000, every_s=1.5)
