"""The page of rollouts: what it holds, that hostile text stays text, and how it behaves."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored
from pipeline.watch.explorer import write_explorer
from pipeline.watch.explorer_data import LONGEST, NATS
from pipeline.watch.report import write_report
from tests.chromium import AVAILABLE, Chromium
from tests.watch.runs import answer, evaluated_run

HOSTILE = "<think>a</script><!--<script></think><img src=x onerror=\"document.title='owned'\">"
WORDS = ("<think>", "</think>", " ", "one", "two", "<eos>")


def tokenizer(folder: Path) -> None:
    """A tokenizer whose tokens are `WORDS`."""
    folder.mkdir(parents=True)
    special = {"id": 5, "content": "<eos>", "special": True, "single_word": False}
    special |= {"lstrip": False, "rstrip": False, "normalized": False}
    content = {
        "version": "1.0",
        "added_tokens": [special],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {word: at for at, word in enumerate(WORDS)},
            "unk_token": "<eos>",
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def rollout(prompt: str, sample: int, tokens: tuple[int, ...], reward: float | None) -> Scored:
    return Scored(
        rollout=Rollout(
            prompt_id=prompt,
            sample=sample,
            seed=sample,
            prompt_tokens=(1,),
            tokens=tokens,
            logprobs=tuple(-0.25 * at for at in range(len(tokens))),
            stop="eos",
            weight_version=3,
            depths=tuple(1 + at % 3 for at in range(len(tokens))),
            prompt_depth=1,
        ),
        text="".join(WORDS[token] for token in tokens if token != 5),
        reward=reward,
        components={"answer": reward},
        verdicts={"answer": "wrong" if reward == 0 else "correct"},
        details={"answer": {"read": "two <b>"}},
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Steps 1 and 5 of two prompts, and an evaluation whose answers are hostile."""
    run = evaluated_run(
        tmp_path / "run",
        {"base": [[0.0], [1.0]]},
        questions=["q0?", "q1?"],
        recipe={"stages": {"reason": {"kind": "grpo"}, "report": {"kind": "evaluate"}}},
    )
    file = run / "stages" / "report" / "base.parquet"
    rows = [answer(f"id-q{at}?", 0, float(at), model="base") for at in (0, 1)]
    write_scored([replace(row, text=HOSTILE) for row in rows], file)
    tokenizer(run / "inputs" / "base" / "model")
    (run / "inputs" / "train").mkdir()
    prompts = [Prompt(id="a", question="A <i>?", answer="two"), Prompt(id="b", question="B?")]
    write_prompts(prompts, run / "inputs" / "train" / "prompts.parquet")
    (run / "journal" / "reason").mkdir(parents=True)
    for step, reward in ((0, 0.0), (4, 1.0)):
        samples = [rollout(p, s, (0, 3, 1, 4, 5), reward) for p in "ab" for s in (0, 1)]
        samples[-1] = replace(samples[-1], reward=None, text="no such tokens")
        write_scored(samples, run / "journal" / "reason" / f"step-{step:06d}.parquet")
    return run


def unpacked(run_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(index, bodies) of a run's page, as its script reads them."""
    page = (run_dir / "explorer.html").read_text()
    found = re.findall(r'<script id="([\w-]+)" type="application/gzip">([^<]*)</script>', page)
    content = {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in found}
    index = content.pop("index")
    return index, [body for block in content.values() for body in block]


def test_all_rollouts_are_there_in_the_order_of_the_stages(run_dir: Path) -> None:
    data = write_explorer(run_dir)
    assert data is not None
    assert (data.rollouts, data.note) == (10, "all 10 rollouts")
    index, bodies = unpacked(run_dir)
    columns = index["columns"]
    assert {len(values) for values in columns.values()} == {10}
    assert index["sources"] == ["reason", "report: base"]
    assert columns["step"] == [1] * 4 + [5] * 4 + [None] * 2
    assert columns["reward"][:4] == [0.0, 0.0, 0.0, None]
    assert index["prompts"][0] == ["a", "A <i>?", "two", ""]
    assert index["deepest"] == 3
    first = bodies[0]
    assert [index["pieces"][token] for token in first["tokens"]] == [
        "<think>",
        "one",
        "</think>",
        "two",
        "<eos>",
    ]
    assert first["tail"] == 1
    assert list(base64.b64decode(first["nats"])) == [NATS // 4 * at for at in range(5)]
    assert list(base64.b64decode(first["depths"])) == [1, 2, 3, 1, 2]
    assert first["why"] == {"answer": {"read": "two <b>"}}
    assert bodies[3]["text"] == "no such tokens"  # tokens that are not the text colour nothing


def test_beyond_the_limit_whole_prompts_are_drawn_and_it_is_said(run_dir: Path) -> None:
    data = write_explorer(run_dir, most=5)
    assert data is not None
    assert re.fullmatch(
        r"\d of 10 rollouts: all of \d prompts?s?, drawn at random from 4", data.note
    )
    index, bodies = unpacked(run_dir)
    counts = [index["columns"]["prompt"].count(at) for at in range(len(index["prompts"]))]
    assert 0 < len(bodies) == sum(counts) <= 5
    full = {"a": 4, "b": 4, "id-q0?": 1, "id-q1?": 1}
    assert counts == [full[prompt[0]] for prompt in index["prompts"]]
    few = write_explorer(run_dir, most_tokens=9)
    assert few is not None
    assert 0 < few.rollouts < 10


def test_long_texts_keep_their_begin_and_end(run_dir: Path) -> None:
    row = rollout("a", 0, (3,), 1.0)
    text = "b" * LONGEST + "middle" + "e" * LONGEST
    write_scored([replace(row, text=text)], run_dir / "journal/reason/step-000000.parquet")
    write_explorer(run_dir)
    _, bodies = unpacked(run_dir)
    shown = bodies[0]["text"]
    assert len(shown) < LONGEST + 60
    assert shown.startswith("b")
    assert shown.endswith("e")
    assert f"{LONGEST + 6:,} characters" in shown


def test_no_number_ends_the_page(run_dir: Path) -> None:
    odd = rollout("a", 0, (3, 4), float("nan"))
    odd = replace(odd, rollout=replace(odd.rollout, logprobs=(float("nan"), float("-inf"))))
    write_scored([odd], run_dir / "journal/reason/step-000000.parquet")
    write_explorer(run_dir)
    index, bodies = unpacked(run_dir)
    assert (index["columns"]["reward"][0], index["columns"]["surprise"][0]) == (None, None)
    assert list(base64.b64decode(bodies[0]["nats"])) == [0, 255]


def test_a_run_without_rollouts_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    assert write_explorer(tmp_path) is None
    assert not (tmp_path / "explorer.html").exists()
    assert "explorer.html" not in write_report(tmp_path).read_text()


def test_a_damaged_journal_leaves_the_report(run_dir: Path) -> None:
    (run_dir / "journal" / "reason" / "step-000000.parquet").write_text("cut off")
    (run_dir / "journal" / "reason" / "step-000004.parquet").unlink()
    page = write_report(run_dir).read_text()
    assert "step-000000.parquet cannot be read" in page


def test_what_a_model_wrote_is_nowhere_in_the_page_as_it_stands(run_dir: Path) -> None:
    write_explorer(run_dir)
    page = (run_dir / "explorer.html").read_text()
    assert "onerror" not in page
    assert "<!--" not in page
    scripts: list[dict[str, str | None]] = []

    class Scripts(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "script":
                scripts.append(dict(attrs))

    Scripts().feed(page)
    assert [row.get("id") for row in scripts] == ["index", "block-0", None]
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(r"https?:|<link|@import|url\(|innerHTML|insertAdjacent|eval\(", page)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium(width=1300, height=900) as window:
        yield window


@pytest.mark.skipif(not AVAILABLE, reason="needs chromium and chromedriver")
def test_a_reader_filters_reads_and_compares(run_dir: Path, browser: Chromium) -> None:
    write_explorer(run_dir)
    browser.open((run_dir / "explorer.html").as_uri() + "#source=reason&step=5")
    browser.wait("return document.body.dataset.texts !== undefined")
    count = "return document.getElementById('count').textContent"
    assert browser.script(count) == "4 of 10"
    browser.script("document.getElementById('clear').click()")
    assert browser.script(count) == "10 of 10"
    browser.script("document.getElementById('list').focus()")
    browser.keys("/")
    assert browser.script("return document.activeElement.id") == "text"
    browser.keys("ONERROR")
    assert browser.script(count) == "2 of 10"
    browser.keys("\ue00c")  # escape
    assert browser.script("return document.activeElement.id") == "list"
    browser.keys("\ue015")  # arrow down
    browser.wait("return document.querySelector('#detail article') !== null")
    text = browser.script("return document.getElementById('detail').textContent")
    assert "onerror=\"document.title='owned'\"" in text
    assert browser.script("return document.title").startswith("run ")
    assert browser.script("return document.querySelectorAll('#detail img').length") == 0
    browser.script("document.getElementById('clear').click()")
    browser.script("document.querySelector('.row').click()")
    browser.wait("return document.querySelectorAll('.mark').length === 4")
    browser.script("document.querySelector('#detail h3 button').click()")
    browser.wait("return document.querySelectorAll('.columns article').length === 2")
    steps = browser.script("return document.querySelector('.columns').textContent")
    assert "step 1" in steps
    assert "step 5" in steps
    assert "read: two <b>" in steps
    assert browser.complaints() == []


@pytest.mark.skipif(not AVAILABLE, reason="needs chromium and chromedriver")
def test_colours_say_how_sure_and_how_deep_tokens_are(run_dir: Path, browser: Chromium) -> None:
    write_explorer(run_dir)
    browser.open((run_dir / "explorer.html").as_uri())
    browser.wait("return document.body.dataset.opened !== undefined")
    browser.script("document.querySelector('.row').click()")
    browser.wait("return document.querySelector('#detail article') !== null")
    for mode, css, levels in (
        ("nats", ".unsure", ["6%", "13%", "19%", "25%"]),
        ("depth", ".deep", ["50%", "100%", "50%"]),
    ):
        browser.script(
            "const node = document.getElementById('colour'); node.value = arguments[0];"
            "node.dispatchEvent(new Event('input'))",
            mode,
        )
        browser.wait(f"return document.querySelector('#detail {css}') !== null")
        found = browser.script(
            f"return [...document.querySelectorAll('#detail {css}')]"
            ".map((node) => node.style.getPropertyValue('--level'))"
        )
        assert found == levels
    titles = browser.script(
        "return [...document.querySelectorAll('#detail pre span')].map((node) => node.title)"
    )
    assert titles[1] == "0.25 nats, depth 2"


@pytest.mark.skipif(not AVAILABLE, reason="needs chromium and chromedriver")
def test_a_phone_shows_the_list_then_one_rollout(run_dir: Path) -> None:
    write_explorer(run_dir)
    with Chromium(width=390, height=760) as phone:
        phone.open((run_dir / "explorer.html").as_uri())
        phone.wait("return document.body.dataset.opened !== undefined")
        shows = "return getComputedStyle(document.querySelector(arguments[0])).display !== 'none'"
        assert not phone.script(shows, "#pane")
        assert not phone.script(shows, "#filters")
        phone.script("document.getElementById('more').click()")
        assert phone.script(shows, "#filters")
        phone.script("document.querySelector('.row').click()")
        phone.wait("return document.querySelector('#detail article') !== null")
        assert phone.script(shows, "#pane")
        assert not phone.script(shows, "#list") or not phone.script(shows, ".found")
        wide = phone.script("return document.documentElement.scrollWidth")
        assert wide <= 390
        phone.script("document.getElementById('back').click()")
        assert phone.script(shows, ".found")
