"""How long the page of 20,000 rollouts takes to write, to open and to filter, in headless Chromium.

    python -m tests.bench.explorer [--rollouts 20000] [--tokens 160] [--json] [--keep FOLDER]

The rollouts are made up: 250 steps of 80, of 400 prompts, with log-probabilities, depths, two
rewards and their reasons. Chromium and its driver are those of the path.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored
from pipeline.watch.explorer import write_explorer
from tests.chromium import Chromium

STEP_ROLLOUTS = 80
PROMPTS = 400
WORDS = ["so", "then", "we", "have", "12", "and", "7", "left", "=", "x", "+", "which", "is", "not"]
FILTERS = (
    {"text": "we have 12"},
    {"text": "zebra"},
    {"source": "0", "reward-from": "1"},
    {"step-from": "100", "step-to": "120"},
    {"verdict": "1", "length-from": "100"},
    {"depth-from": "3"},
    {"order": "unsure"},
    {"text": "which is not", "reward-to": "0", "order": "long"},
)


def make_run(folder: Path, *, rollouts: int, tokens: int) -> Path:
    """A run folder with a tokenizer of words and so many journaled rollouts."""
    for place in ("journal/reason", "inputs/base/model", "inputs/train"):
        (folder / place).mkdir(parents=True)
    recipe = {"name": "bench", "stages": {"reason": {"kind": "grpo", "prompts": "train"}}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "inputs/base/model/tokenizer.json").write_text(json.dumps(_tokenizer()))
    prompts = [
        Prompt(id=f"p{i}", question=f"What is {i} and {i + 1}, all told?", answer=str(2 * i + 1))
        for i in range(PROMPTS)
    ]
    write_prompts(prompts, folder / "inputs/train/prompts.parquet")
    draws = np.random.default_rng(0)
    for step in range(math.ceil(rollouts / STEP_ROLLOUTS)):
        rows = [_scored(draws, prompts, step, at, tokens=tokens) for at in range(STEP_ROLLOUTS)]
        write_scored(rows, folder / "journal/reason" / f"step-{step:06d}.parquet")
    return folder


def measured(folder: Path) -> dict[str, Any]:
    """Seconds to write the page, milliseconds to open it and of each filter."""
    began = time.perf_counter()
    data = write_explorer(folder)
    assert data is not None
    written_s = time.perf_counter() - began
    page = folder / "explorer.html"
    with Chromium(width=1400, height=1000) as browser:
        browser.open(page.as_uri())
        browser.wait("return document.body.dataset.opened !== undefined")
        opened = browser.script("return Number(document.body.dataset.opened)")
        browser.wait("return document.body.dataset.texts !== undefined")
        texts = browser.script("return Number(document.body.dataset.texts)")
        filters = [_filter_ms(browser, values) for values in FILTERS]
        detail = browser.script_async(_DETAIL)
    return {
        "rollouts": data.rollouts,
        "page_mb": page.stat().st_size / 1e6,
        "written_s": written_s,
        "opened_ms": opened,
        "texts_ms": texts,
        "filters": filters,
        "slowest_filter_ms": max(row["ms"] for row in filters),
        "rollout_ms": detail,
    }


def _filter_ms(browser: Chromium, values: dict[str, str]) -> dict[str, Any]:
    """Of a filter until its first rows are laid out: the least of five times, which is its work
    on cores that others use too, and the median."""
    times = sorted(browser.script_async(_FILTER, values)["ms"] for _ in range(5))
    found = browser.script("return document.getElementById('count').textContent")
    return {"filter": values, "ms": times[0], "median_ms": times[2], "found": found}


_FILTER = """
const [values, done] = arguments;
document.getElementById("clear").click();
requestAnimationFrame(() => setTimeout(() => {
  const keys = Object.keys(values);
  for (const key of keys) document.getElementById(key).value = values[key];
  const began = performance.now();
  document.getElementById(keys[0]).dispatchEvent(new Event("input"));
  document.getElementById("list").getBoundingClientRect();
  document.getElementById("rows").lastElementChild?.getBoundingClientRect();
  const worked = performance.now() - began;
  requestAnimationFrame(() => setTimeout(() => done({ ms: worked })));
}));
"""
_DETAIL = """
const [done] = arguments;
document.getElementById("clear").click();
const began = performance.now();
document.querySelector(".row").click();
const look = () => {
  if (document.querySelector("#detail article")) done(performance.now() - began);
  else setTimeout(look, 1);
};
look();
"""


def _tokenizer() -> dict[str, Any]:
    vocabulary = {word: at for at, word in enumerate([*WORDS, " ", "<think>", "</think>", "<eos>"])}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<eos>"},
    }


def _scored(
    draws: np.random.Generator, prompts: list[Prompt], step: int, at: int, *, tokens: int
) -> Scored:
    space, begin, end = len(WORDS), len(WORDS) + 1, len(WORDS) + 2
    length = int(draws.integers(tokens // 2, tokens * 3 // 2))
    inner = draws.integers(0, len(WORDS), size=length)
    ids = [begin, *(part for word in inner for part in (int(word), space)), end, 4]
    pieces = {number: word for word, number in _tokenizer()["model"]["vocab"].items()}
    right = float(draws.random() < 0.2 + step / 400)
    return Scored(
        rollout=Rollout(
            prompt_id=prompts[(step * 10 + at // 8) % PROMPTS].id,
            sample=at % 8,
            seed=at,
            prompt_tokens=(1, 2, 3),
            tokens=tuple(ids),
            logprobs=tuple(-draws.exponential(0.4, size=len(ids))),
            stop="eos" if draws.random() < 0.9 else "length",
            weight_version=step,
            depths=tuple(int(d) for d in draws.integers(1, 5, size=len(ids))),
            prompt_depth=4,
        ),
        text="".join(pieces[number] for number in ids),
        reward=right + 0.1,
        components={"answer": right, "format": 1.0},
        verdicts={"answer": "correct" if right else "wrong", "format": "ok"},
        details={"answer": {"read": "12", "gold": "13"}},
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=20_000)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary) / "run"
        if not (folder / "recipe.yaml").is_file():
            make_run(folder, rollouts=asked.rollouts, tokens=asked.tokens)
        figures = measured(folder)
    if asked.json:
        print(json.dumps(figures, indent=1))
        return
    print(f"{figures['rollouts']:,} rollouts, {figures['page_mb']:.1f} MB")
    print(f"written in {figures['written_s']:.1f} s, opened in {figures['opened_ms']:.0f} ms")
    print(f"texts searchable after {figures['texts_ms']:.0f} ms")
    for row in figures["filters"]:
        times = f"{row['ms']:6.1f} ms (median {row['median_ms']:.1f})"
        print(f"{times}  {row['filter']}  {row['found']}")
    print(f"a rollout shown in {figures['rollout_ms']:.0f} ms")


if __name__ == "__main__":
    main()
