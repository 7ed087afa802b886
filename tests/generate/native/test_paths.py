"""Paths in the native engine: what wins, what later tokens see, what it costs, what comes back."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from pipeline.generate.chat import load_chat
from pipeline.generate.native.paths import judge_of
from pipeline.generate.native.row_table import IDLE, depth_of, spare_entries
from pipeline.generate.native.session import Session
from pipeline.generate.native_engine import NativeEngine
from pipeline.prompts.tasks import generate
from pipeline.records import Request, Rollout
from pipeline.recurrent.explore import RIGHT_HEAD, Exploration, exploration_flops
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.policy import HaltingPolicy
from pipeline.recurrent.request import RULES, DepthRequest
from pipeline.recurrent.shape import rollout_flops, shape_of
from tests.generate.native.explored import Explorer
from tests.generate.native_requests import (
    SETTINGS,
    assert_all_free,
    build,
    mixed,
    ruled,
    run,
    same,
)

MODELS = Path(__file__).parents[3] / "data" / "models"
LOUD = Exploration(paths=4, noise=0.5)


def with_judge(folder: Path, *, width: int = 12) -> Path:
    """A random head in a model's folder, sure enough of itself for paths to differ."""
    torch.manual_seed(1)
    head = HaltingPolicy(64, width=width, max_iterations=6)
    with torch.no_grad():
        head.out.weight *= 8
    (folder / RIGHT_HEAD).parent.mkdir()
    save_file(head.state_dict(), folder / RIGHT_HEAD)
    return folder


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_judge(build(tmp_path_factory.mktemp("judged")))


@pytest.fixture(scope="module")
def engine(judged: Path) -> NativeEngine:
    return NativeEngine(judged, SETTINGS, version=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    """An engine whose model has no head for paths."""
    return NativeEngine(build(tmp_path_factory.mktemp("plain")), SETTINGS, version=0)


def exploring(requests: Sequence[Request], exploration: Exploration | None) -> list[Request]:
    return [dataclasses.replace(request, explore=exploration) for request in requests]


def content(rollouts: Sequence[Rollout]) -> list[Any]:
    """All but what it cost, to the bit."""
    return [dataclasses.replace(rollout, flops=0.0) for rollout in rollouts]


@pytest.mark.parametrize(
    ("options", "has_judge"),
    [
        ({"injection": "linear", "block_style": "sandwich"}, True),
        ({"injection": "linear", "coda_layers": 2, "num_key_value_heads": 1}, False),
        ({"injection": "gated", "block_style": "pre"}, True),
        ({"injection": "add", "state_init": "normal", "qk_norm": True}, False),
        ({"injection": "none", "state_init": "input", "tie_iterations": False}, True),
        ({"injection": "linear", "tie_iterations": False, "core_layers": 2}, False),
    ],
    ids=["linear", "entropy", "gated", "add, entropy", "untied", "untied, entropy"],
)
def test_it_is_what_exploration_written_out_gives(
    options: dict[str, Any], has_judge: bool, tmp_path: Path
) -> None:
    build(tmp_path, **options)
    judge = judge_of(with_judge(tmp_path), device="cpu") if has_judge else None
    engine = NativeEngine(tmp_path, SETTINGS, version=0)
    model = RecurrentForCausalLM.from_pretrained(tmp_path).eval()
    wins = 0
    for keep in (0.5, 1.0):
        exploration = dataclasses.replace(LOUD, keep=keep, paths=5)
        requests = exploring(mixed(6, temperature=0.0, max_tokens=10), exploration)
        requests = [r for r in requests if r.depth is not None]
        for request, rollout in zip(requests, run(engine, requests), strict=True):
            explorer = Explorer(model, request, judge)
            tokens, logprobs = explorer.greedy()
            assert rollout.tokens == tuple(tokens)
            assert rollout.logprobs == pytest.approx(logprobs, abs=1e-4)
            wins += explorer.wins
    assert wins > 20, "no path but the first ever wins"


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_request_does_not_depend_on_its_batch(
    engine: NativeEngine, judged: Path, keep: float
) -> None:
    exploration = dataclasses.replace(LOUD, keep=keep)
    requests = [*exploring(mixed(8), exploration), *mixed(12)[8:]]
    requests += exploring(ruled("policy", 15, sampled=True)[12:], exploration)
    expected = run(engine, requests)
    assert content(expected) != content(run(engine, exploring(requests, None)))
    other = NativeEngine(judged, dataclasses.replace(SETTINGS, max_sequences=3), version=0)
    same(expected, run(other, requests[::-1]))
    same(expected[3:4], run(other, requests[3:4]))


def test_without_noise_nothing_changes_whatever_the_rule(engine: NativeEngine) -> None:
    for rule in RULES:
        requests = ruled(rule, 6, sampled=rule == "policy", log_price=0.3)
        one = run(engine, requests)
        several = run(engine, exploring(requests, Exploration(paths=4, noise=0.0)))
        assert content(one) == content(several)
        assert all(a.flops <= b.flops for a, b in zip(one, several, strict=True))
        assert sum(r.flops for r in one) < sum(r.flops for r in several)


@given(
    paths=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.3]),
    keep=st.floats(0.1, 1.0),
    count=st.integers(1, 9),
    temperature=st.sampled_from([0.0, 1.0]),
    judge=st.booleans(),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_noise_and_one_path_change_nothing(
    engine: NativeEngine, plain: NativeEngine, paths: int, noise: float, keep: float,
    count: int, temperature: float, judge: bool,
) -> None:  # fmt: skip
    exploration = Exploration(paths=paths if noise == 0.0 else 1, noise=noise, keep=keep)
    requests = mixed(count, temperature=temperature)
    chosen = engine if judge else plain
    one, several = run(chosen, requests), run(chosen, exploring(requests, exploration))
    assert content(one) == content(several)
    if exploration.paths == 1:
        assert [r.flops for r in one] == [r.flops for r in several]


@pytest.mark.parametrize("name", ["tiny", "tiny-depth", "tiny-picks"])
def test_a_real_model_without_noise_is_itself(name: str) -> None:
    model = MODELS / name
    engine = NativeEngine(model, dataclasses.replace(SETTINGS, max_model_tokens=128), version=0)
    chat = load_chat(model)
    task = {"tiny": "swaps", "tiny-depth": "shuffles", "tiny-picks": "picks"}[name]
    problems = generate(task, size=6, split="test", seed=3, difficulty=(3, 4))
    requests = [
        Request(
            prompt_id=str(number),
            prompt_tokens=chat.prompt_ids(chat.render(problem.question, ())),
            sample=number,
            seed=number,
            max_tokens=60,
            temperature=number % 2,
            depth=DepthRequest(depth=4, prompt_depth=1),
        )
        for number, problem in enumerate(problems)
    ]
    one = run(engine, requests)
    for exploration in (Exploration(paths=4, noise=0.0), Exploration(paths=1, noise=0.3)):
        assert content(one) == content(run(engine, exploring(requests, exploration)))
    noisy = run(engine, exploring(requests, Exploration(paths=4, noise=0.3)))
    assert content(one) != content(noisy)


@pytest.mark.parametrize("keep", [0.4, 1.0])
@pytest.mark.parametrize("has_judge", [True, False])
def test_what_runs_is_what_is_counted(
    engine: NativeEngine, plain: NativeEngine, has_judge: bool, keep: float
) -> None:
    """By PyTorch's own counter, beside the same request without exploration."""
    chosen = engine if has_judge else plain
    exploration = Exploration(paths=5, noise=0.3, keep=keep)
    request = dataclasses.replace(
        mixed(6)[5], depth=DepthRequest(rule="schedule", depth=4, schedule=(6, 1, 2, 5))
    )

    def measured(explore: Exploration | None) -> tuple[int, Rollout]:
        with FlopCounterMode(display=False) as counter:
            (rollout,) = run(chosen, exploring([request], explore))
        return counter.get_total_flops(), rollout

    counted, rollout = measured(exploration)
    counted -= measured(None)[0]
    shape = shape_of(chosen.model.config.to_dict())
    assert rollout.depths is not None
    assert request.depth is not None
    length = len(request.prompt_tokens)
    more = exploration_flops(
        shape,
        exploration,
        prompt_tokens=length,
        depths=rollout.depths,
        head_width=12 if has_judge else None,
    )
    assert more == pytest.approx(counted, rel=0.02)
    one = rollout_flops(shape, prompt_tokens=length, depths=rollout.depths, request=request.depth)
    assert rollout.flops == one + more


@pytest.mark.parametrize("tied", [True, False])
def test_an_abandoned_generation_frees_what_paths_hold(tied: bool, tmp_path: Path) -> None:
    engine = NativeEngine(build(tmp_path, tie_iterations=tied), SETTINGS, version=0)
    deep = [dataclasses.replace(r, depth=DepthRequest(depth=6)) for r in mixed(12)]
    session: Any = engine.generate(exploring(deep, LOUD), version=0)
    next(session)  # others are in the middle of a token
    assert engine.pool.core.promised > 0
    session.close()
    assert_all_free(engine)


def test_a_small_pool_waits_and_gives_the_same(engine: NativeEngine, judged: Path) -> None:
    requests = exploring(mixed(12), LOUD)
    entry_gib = 2 * 64 * 4 / 2**30
    small = NativeEngine(
        judged, dataclasses.replace(SETTINGS, kv_cache_gib=50 * (2 + 3 * 2) * entry_gib), version=0
    )
    assert small.pool.core.entries == 150
    same(run(engine, requests), run(small, requests))
    wide = Exploration(paths=20, noise=0.1, keep=1.0)
    greedy = dataclasses.replace(requests[0], depth=DepthRequest(depth=5), explore=wide)
    assert wide.spare_entries(5) == 19 * 4
    with pytest.raises(ValueError, match=r"kv_cache_gib, or lower explore\.paths, or lower max_to"):
        next(small.generate([dataclasses.replace(greedy, max_tokens=16)], version=0))
    run(small, [greedy])


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_every_entry_is_accounted_for_after_every_tick(engine: NativeEngine, keep: float) -> None:
    requests = exploring(mixed(20), dataclasses.replace(LOUD, keep=keep))
    session = Session(
        requests,
        model=engine._rows,
        rows=8,
        ends=engine._ends,
        version=0,
        shape=engine._shape,
        judge=engine._judge,
    )
    rows, store, most = session.rows, engine.pool.core, 0
    while session.busy:
        session.tick()
        running = np.flatnonzero(rows.phase != IDLE).tolist()
        of_paths = int((session.paths.entries > 0).sum())
        room = sum(
            spare_entries(request, depth_of(request, 3))
            for request in (rows.requests[row] for row in running)
            if request is not None
        )
        assert int(rows.spare[running].sum()) == room - of_paths
        assert (rows.spare[running] >= 0).all()
        assert store.promised == sum(rows.promised(row) for row in running)
        assert store.free >= store.promised
        held = sum(int(rows.entries_held(row).sum()) for row in running)
        held += sum(prompt.core.size for prompt in session.admission.prompts.values())
        assert store.entries - store.free == held + of_paths
        most = max(most, of_paths)
    assert most > 8
    session.close()
    assert_all_free(engine)
