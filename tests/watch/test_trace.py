"""Traces of a tiny random recurrent model, their page and their command."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli.app import main
from pipeline.depth.model.head import fresh, with_head
from pipeline.errors import OK, WRONG
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.shape import rollout_flops, shape_of
from pipeline.watch.trace import Trace, TraceError, kind_of, trace_prompt
from pipeline.watch.trace_page import MOST_POSITIONS, shown, write_page

PROMPT = "1;12;35? <b>"
DEPTH = 6
FULL = 5
CALIBRATION: dict[str, Any] = {
    "depth_policy": {"depth": FULL, "prompt_depth": 2, "segment": 1, "sampled": False},
    "depth_calibration": [
        {"budget": b, "log_price": p, "mean_depth": FULL * b, "accuracy": 0.5, "flops": 1e6}
        for b, p in ((0.3, 1.0), (0.5, 0.0), (0.8, -1.0))
    ],
    "efforts": {"low": 0.3, "medium": 0.5, "high": 0.8},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One core layer, up to eight iterations, weights large enough that they differ."""
    sizes: dict[str, Any] = {"hidden": 32, "heads": 1, "mlp": 48, "max_position": 1024}
    depths: dict[str, Any] = {"prelude": 1, "core": 1, "coda": 1, "iterations": 3}
    shape = ScratchModel(**sizes, **depths, max_iterations=8)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("model"), seed=3)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = ScratchModel(hidden=32, layers=1, heads=1, mlp=48)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("dense"), seed=3)


@pytest.fixture(scope="module")
def calibrated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a halting head of large random weights, so that its tokens' depths differ."""
    head = fresh(RecurrentForCausalLM.from_pretrained(model).config, width=16, seed=1)
    with torch.no_grad():
        head.out.weight.mul_(12)
        head.state.weight.mul_(3)
    out = with_head(model, tmp_path_factory.mktemp("calibrated"), head)
    for name, more in (
        ("config.json", CALIBRATION),
        ("generation_config.json", {"effort": "medium"}),
    ):
        settings = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps(settings | more))
    return out


@pytest.fixture(scope="module")
def trace(model: Path) -> Trace:
    return trace_prompt(model, PROMPT, max_tokens=5, choice={"depth": DEPTH}, follow=None)


@pytest.fixture(scope="module")
def chosen(calibrated: Path) -> Trace:
    """A trace in which every token chose its depth."""
    return trace_prompt(calibrated, PROMPT, max_tokens=24, choice={"effort": "low"}, follow=None)


@pytest.fixture(scope="module")
def page(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(trace, tmp_path_factory.mktemp("page") / "trace.html").read_text()


def test_a_trace_covers_every_position_that_ran(trace: Trace) -> None:
    assert trace.prompt_tokens == 1 + len(PROMPT) + 1  # <user> and <assistant>
    written = trace.tokens[trace.prompt_tokens :]
    ran = len(trace.tokens) - 1
    assert 1 <= len(written) <= 5
    assert trace.depths == (DEPTH,) * ran
    assert {token.depth for token in written} == {DEPTH}
    assert {token.depth for token in trace.tokens[: trace.prompt_tokens]} == {None}
    for rows, each in ((trace.change, DEPTH), (trace.kl, DEPTH - 1), (trace.predictions, DEPTH)):
        assert [len(row) for row in rows] == [each] * ran
    assert [len(path) for path in trace.plane] == [DEPTH] * ran
    assert trace.flops > 0
    assert trace.completion == "".join(token.text for token in written)


def test_what_was_written_is_the_last_iterations_first_choice(trace: Trace) -> None:
    for position in range(trace.prompt_tokens - 1, len(trace.depths)):
        best = trace.predictions[position][-1][0]
        assert best.right
        assert best.text == trace.tokens[position + 1].text


@torch.no_grad()
def test_a_position_goes_on_alone(calibrated: Path, chosen: Trace) -> None:
    """Against the parallel pass in which one position runs deeper than it did, or less deep."""
    network = RecurrentForCausalLM.from_pretrained(calibrated).eval()
    ids = torch.tensor([[token.id for token in chosen.tokens[:-1]]])
    for n in (1, chosen.prompt_tokens - 1, len(chosen.depths) - 1):
        logprobs = []
        for i in range(1, FULL + 1):
            depths = torch.tensor([[*chosen.depths[:n], i, *chosen.depths[n + 1 :]]])
            out = network(input_ids=ids, depths=depths, output_hidden_states=True)
            logprobs.append(out.logits[0, n].log_softmax(-1))
            expected = logprobs[-1].exp().topk(3).values.tolist()
            top = [p.probability for p in chosen.predictions[n][i - 1]]
            assert top == pytest.approx(expected, rel=1e-3)
            moved = (out.hidden_states[i][0, n] - out.hidden_states[i - 1][0, n]).norm()
            change = float(moved / out.hidden_states[i][0, n].norm())
            assert chosen.change[n][i - 1] == pytest.approx(change, rel=1e-3)
        now, before = logprobs[-1], logprobs[-2]
        divergence = float((now.exp() * (now - before)).sum())
        assert chosen.kl[n][-1] == pytest.approx(divergence, abs=1e-4)


@torch.no_grad()
def test_depths_are_those_that_the_policy_chose(calibrated: Path, chosen: Trace) -> None:
    network = RecurrentForCausalLM.from_pretrained(calibrated).eval()
    request = network.request_for(effort="low")
    ids = torch.tensor([[token.id for token in chosen.tokens]])
    count = chosen.prompt_tokens
    out = network(input_ids=ids[:, :count], depth_request=request, use_cache=True)
    depths = out.depths[0].tolist()
    for n in range(count, ids.shape[1] - 1):
        out = network(
            input_ids=ids[:, n : n + 1], past_key_values=out.past_key_values, depth_request=request
        )
        depths += out.depths[0].tolist()
    assert chosen.depths == tuple(depths)
    assert set(chosen.depths[: count - 1]) == {2}  # prompt_depth
    assert len(set(chosen.written_depths)) > 1, "every token at one depth tests nothing"
    assert (chosen.full_depth, chosen.decided_by) == (FULL, "effort low")
    cost = shape_of(network.config.to_dict())
    flops = rollout_flops(
        cost, prompt_tokens=count, depths=chosen.written_depths, request=chosen.request
    )
    assert chosen.flops == pytest.approx(flops)
    assert chosen.flops < chosen.full_flops


def test_what_was_written_is_the_first_choice_at_its_depth(chosen: Trace) -> None:
    for n in range(chosen.prompt_tokens - 1, len(chosen.depths)):
        assert chosen.predictions[n][chosen.depths[n] - 1][0].right
        assert chosen.settled(n) <= chosen.depths[n]
    turned = [n for n in range(len(chosen.depths)) if chosen.turned(n)]
    for n in turned:
        assert chosen.depths[n] < FULL
        assert chosen.predictions[n][-1][0].id != chosen.predictions[n][chosen.depths[n] - 1][0].id


@pytest.mark.parametrize(
    ("choice", "words", "rule", "depth"),
    [
        ({}, "effort medium, the model's default", "policy", FULL),
        ({"budget": 1.0}, "budget 1.0", "fixed", FULL),
        ({"depth": 2}, "depth 2", "fixed", 2),
        ({"depth": 8}, "depth 8", "fixed", 8),
    ],
)
def test_who_decides_the_depth(
    calibrated: Path, choice: dict[str, Any], words: str, rule: str, depth: int
) -> None:
    trace = trace_prompt(calibrated, "1", max_tokens=1, choice=choice, follow=None)
    assert (trace.decided_by, trace.request.rule, trace.request.depth) == (words, rule, depth)
    assert trace.full_depth == max(depth, FULL)


@torch.no_grad()
def test_changes_and_paths_are_those_of_the_states(model: Path, trace: Trace) -> None:
    network = RecurrentForCausalLM.from_pretrained(model).eval()
    ids = torch.tensor([[token.id for token in trace.tokens[:-1]]])
    out = network(input_ids=ids, num_iterations=DEPTH, output_hidden_states=True)
    states = torch.stack(out.hidden_states)[:, 0]
    for n in range(len(trace.depths)):
        moved = (states[-1, n] - states[-2, n]).norm() / states[-1, n].norm()
        assert trace.change[n][-1] == pytest.approx(float(moved), rel=1e-4)
        flat = torch.tensor(trace.plane[n])
        full = (states[-1, n] - states[1, n]).norm()
        assert (flat[-1] - flat[0]).norm() <= full * 1.0001  # a projection shortens
    lengths = states[1:].diff(dim=0).norm(dim=-1).sum(0) / states[-1].norm(dim=-1)
    longest = sorted(lengths.topk(5).indices.tolist())
    assert [path.position for path in trace.trajectories] == longest
    assert 0 < trace.explained <= 1


def test_where_a_choice_settles(trace: Trace) -> None:
    for n in range(len(trace.depths)):
        best = [step[0].id for step in trace.predictions[n]]
        at = trace.settled(n)
        assert set(best[at - 1 :]) == {best[-1]}
        assert at == 1 or best[at - 2] != best[-1]


def path_of(*points: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([(x + 10, y) for x, y in points])


def test_kinds_of_paths() -> None:
    turn = math.tau / 8
    circle = path_of(*((4 * math.cos(i * turn), 4 * math.sin(i * turn)) for i in range(20)))
    assert kind_of(circle)[0] == "orbit"
    swing = path_of(*((3.0 * (i % 2), 0.0) for i in range(9)))
    assert kind_of(swing)[0] == "orbit"
    line = path_of(*((float(i), 0.1 * i) for i in range(9)))
    assert kind_of(line) == ("slider", pytest.approx(1))
    closing = path_of(*((2.0**-i, 0.0) for i in range(9)))
    assert kind_of(closing)[0] == "fixed point"
    zigzag = path_of(*((float(i), 2.0 * (i % 2)) for i in range(9)))
    assert kind_of(zigzag)[0] == "wanderer"
    assert kind_of(line[:3]) == ("too short", None)


def test_the_page_tells_what_ran_from_what_did_not(chosen: Trace, tmp_path: Path) -> None:
    page = write_page(chosen, tmp_path / "trace.html").read_text()
    skipped = sum(FULL - depth for depth in chosen.depths)
    skipped_changes = sum(FULL - max(depth, 1) for depth in chosen.depths)
    assert page.count('class="skipped" x=') == skipped + skipped_changes
    assert page.count('class="depth" d=') == 2
    assert page.count('class="chosen"') == len(chosen.trajectories)
    written = len(chosen.written_depths)
    assert len(re.findall(r'<td class="[^"]*chosen', page)) == written
    assert len(re.findall(r'class="d turned"', page)) == sum(
        chosen.turned(n) for n in range(chosen.prompt_tokens - 1, len(chosen.depths))
    )
    assert "What did not run" in page
    assert "effort low" in page


def test_the_page_shows_every_piece(trace: Trace, page: str) -> None:
    for part in ("How far the state moves", "How far the prediction moves", "Trajectories"):
        assert part in page
    ran = len(trace.depths)
    assert page.count("<rect") == ran * DEPTH + ran * (DEPTH - 1)
    assert page.count('class="panel"') == len(trace.trajectories)
    assert page.count("drawn at depth 6") == len(trace.tokens) - trace.prompt_tokens
    assert page.count('class="guess') == 3 * DEPTH * (len(trace.tokens) - trace.prompt_tokens)
    assert page.count("<polyline") == ran + len(trace.trajectories)
    assert "did not run" not in page.split("</style>")[1]


def test_the_page_needs_no_network_and_escapes_text(page: str) -> None:
    assert not re.search(r"https?:|<script|<link|@import|url\((?!#)|src=", page)
    assert "&lt;b&gt;" in page
    assert "<user>" not in page


def test_the_pages_tags_are_balanced(page: str) -> None:
    opened: list[str] = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Balance().feed(page)
    assert opened == []


def test_one_iteration_and_one_token_make_a_page(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(shallow(model, tmp_path))
    trace = trace_prompt(tmp_path, "1", max_tokens=1, choice={}, follow=[0])
    assert (trace.full_depth, trace.decided_by) == (1, "the model's own 1 iterations")
    assert trace.kl == ((),) * len(trace.depths)
    assert trace.trajectories[0].kind == "too short"
    page = write_page(trace, tmp_path / "trace.html").read_text()
    assert "How far the prediction moves" not in page


def shallow(model: Path, where: Path) -> Path:
    """A copy whose own number of iterations is 1."""
    out = shutil.copytree(model, where / "shallow")
    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(settings | {"num_iterations": 1}))
    return out


def test_a_long_sequence_is_cut_on_the_page_only(model: Path, tmp_path: Path) -> None:
    trace = trace_prompt(model, "7" * 450, max_tokens=2, choice={"depth": 2}, follow=[0])
    page = write_page(trace, tmp_path / "trace.html").read_text()
    assert page.count("<rect") == MOST_POSITIONS * 5  # three iterations, two changes
    assert f"the last {MOST_POSITIONS} positions" in page
    assert len(trace.change) > 450


def test_white_space_is_shown() -> None:
    assert shown("a b\n\t\x1b") == "a␣b⏎⇥\N{REPLACEMENT CHARACTER}"
    assert shown("") == "∅"


def test_a_trace_as_a_document(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    given = ["--out", str(out), "--depth", "4", "--max-tokens", "3", "--tokens", "2, 5"]
    assert main(["trace", str(model), PROMPT, *given, "--json"]) == OK
    document = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)
    assert out.is_file()
    assert document["page"] == str(out)
    assert [path["position"] for path in document["trajectories"]] == [2, 5]
    ran = len(document["tokens"]) - 1
    assert document["depths"] == [4] * ran
    assert (document["asked"], document["full_depth"], document["mean_depth"]) == ("depth 4", 4, 4)
    assert document["flops"] == document["full_depth_flops"]
    assert len(document["convergence"]["relative_change"]) == ran
    assert len(document["predictions"][0]) == 4


def test_a_stages_folder_is_taken_for_its_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(model)
    trace = trace_prompt(tmp_path, "1", max_tokens=1, choice={}, follow=None)
    assert trace.depths[0] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tokens", "3,99"], "99 is out of range, positions 0 to"),
        (["--tokens", "3,x"], "positions with commas"),
        (["--depth", "9"], "1 to 8 iterations"),
        (["--depth", "0"], "should be greater than or equal to 1"),
        (["--effort", "low"], "no depth_policy in its config.json"),
        (["--budget", "0.5"], "no depth_policy in its config.json"),
        (["--effort", "most"], "effort: Input should be 'low'"),
        (["--budget", "1.5"], "budget: Input should be less than or equal to 1"),
        (["--effort", "low", "--depth", "2"], "give one of effort and depth"),
        (["--max-tokens", "2000"], "the model has 1024 positions"),
        (["--out", "/nowhere/at/all.html"], "there is no folder"),
    ],
)
def test_what_cannot_be_traced_is_said_in_a_line(
    model: Path, tmp_path: Path, options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["trace", str(model), "12?", "--out", str(tmp_path / "x.html"), "--json", *options]
    assert main(given) == WRONG
    error = json.loads(capfd.readouterr().out)["error"]
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "x.html").exists()


def test_folders_without_a_recurrent_model(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"a dense model \(llama\)"):
        trace_prompt(dense, "1", max_tokens=1, choice={}, follow=None)
    with pytest.raises(TraceError, match="no config.json"):
        trace_prompt(tmp_path / "nothing", "1", max_tokens=1, choice={}, follow=None)
    config = {"model_type": "stepwell_recurrent", "warm_start": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TraceError, match="warm_start"):
        trace_prompt(tmp_path, "1", max_tokens=1, choice={}, follow=None)
