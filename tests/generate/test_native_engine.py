"""The native engine against the model: log-probabilities, depths, independence of the batch."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.generate.native_engine import NativeEngine
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import RULES, DepthRequest
from pipeline.recurrent.shape import rollout_flops, shape_of
from tests.generate.native_requests import (
    EOS,
    SETTINGS,
    UNTIED,
    assert_all_free,
    build,
    gap,
    mixed,
    recorded,
    ruled,
    run,
    same,
)


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose iterations are tied, or what an indirect parameter says."""
    tied = getattr(request, "param", True)
    return build(tmp_path_factory.mktemp("native"), tie_iterations=tied)


@pytest.fixture(scope="module")
def model(folder: Path) -> RecurrentForCausalLM:
    return RecurrentForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def engine(folder: Path) -> NativeEngine:
    return NativeEngine(folder, SETTINGS, version=0)


@pytest.mark.parametrize(
    "options",
    [
        {"injection": "linear", "block_style": "sandwich"},
        {"injection": "gated", "block_style": "pre", "num_key_value_heads": 1},
        {"injection": "none", "block_style": "branch", "state_init": "input"}
        | {"iteration_norm": True, "exit_norm": False},
        {"injection": "add", "state_init": "normal", "qkv_bias": True, "qk_norm": True},
        {"num_experts": 3, "prelude_layers": 2, "coda_layers": 0, "embedding_scale": 8.0},
        {"injection": "none", "state_init": "input", "tie_iterations": False, "core_layers": 1},
        {"injection": "gated", "tie_iterations": False, "num_key_value_heads": 1},
        {"injection": "none", "state_init": "input", "tie_iterations": False, "qk_norm": True}
        | {"block_style": "branch", "qkv_bias": True, "core_layers": 2},
        {"injection": "linear", "tie_iterations": False, "block_style": "pre"},
    ],
    ids=[
        *("linear", "gated", "none", "add", "experts"),
        *("untied", "untied, gated", "untied, two layers", "untied, linear"),
    ],
)
def test_logprobs_equal_the_parallel_replay(options: dict[str, Any], tmp_path: Path) -> None:
    build(tmp_path, **options)
    model = RecurrentForCausalLM.from_pretrained(tmp_path).eval()
    rollouts = run(NativeEngine(tmp_path, SETTINGS, version=0), mixed(18))
    assert len(rollouts) == 18
    assert {d for r in rollouts for d in r.depths or ()} == {1, 2, 3, 4, 5, 6}
    assert gap(model, rollouts) < 1e-5


def test_temperature_applies_to_logprobs(engine: NativeEngine, model: RecurrentForCausalLM) -> None:
    assert gap(model, run(engine, mixed(6, temperature=0.6)), temperature=0.6) < 1e-5


def test_depths_are_those_that_were_asked(engine: NativeEngine) -> None:
    requests = mixed(9)
    for request, rollout in zip(requests, run(engine, requests), strict=True):
        depth = request.depth or DepthRequest(depth=3)
        assert rollout.depths == tuple(depth.planned(t) for t in range(request.max_tokens))
        assert rollout.prompt_depth == depth.prefill_depth
        assert rollout.depth_logprobs is None


@pytest.mark.parametrize("max_sequences", [1, 5, 32])
def test_a_request_does_not_depend_on_its_batch(
    engine: NativeEngine, folder: Path, max_sequences: int
) -> None:
    requests = [*mixed(8), *ruled("policy", 12, sampled=True)[8:]]
    expected = run(engine, requests)
    settings = dataclasses.replace(SETTINGS, max_sequences=max_sequences)
    other = NativeEngine(folder, settings, version=0)
    same(expected, run(other, requests[::-1]))
    same(expected[3:4], run(other, requests[3:4]))


def test_a_greedy_request_takes_the_likeliest_tokens(
    engine: NativeEngine, model: RecurrentForCausalLM
) -> None:
    for rollout in run(engine, mixed(6, temperature=0.0)):
        tokens, depths = recorded(rollout)
        with torch.no_grad():
            logits = model(tokens, depths=depths).logits[0, len(rollout.prompt_tokens) - 1 : -1]
        assert tuple(logits.argmax(-1).tolist()) == rollout.tokens


@pytest.mark.parametrize("folder", [True, False], ids=["tied", "untied"], indirect=True)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("min_depth", [1, 3])
def test_every_rule_decides_as_the_model_does(
    engine: NativeEngine, model: RecurrentForCausalLM, rule: str, min_depth: int
) -> None:
    changes: dict[str, object] = {
        "min_depth": min_depth,
        "sampled": rule == "policy",
        "log_price": 0.3,
    }
    if not model.config.tie_iterations:
        changes["threshold"] = UNTIED.get(rule)
    requests = ruled(rule, 6, **changes)
    rollouts = run(engine, requests)
    if rule != "fixed" and min_depth == 1:
        assert len({d for r in rollouts for d in r.depths or ()}) > 1, "the rule is not exercised"
    assert gap(model, rollouts) < 1e-5
    for request, rollout in zip(requests, rollouts, strict=True):
        assert request.depth is not None
        depths, chances = stepwise(model, rollout, request.depth)
        assert rollout.depths == depths
        if rule == "policy":
            assert rollout.depth_logprobs == pytest.approx(chances, abs=1e-5)
        else:
            assert rollout.depth_logprobs is None


@torch.no_grad()
def stepwise(
    model: RecurrentForCausalLM, rollout: Rollout, request: DepthRequest
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Depths, and their log-probabilities, that the model's own decoding of the tokens gives."""
    depths, chances, cache = [], [], None
    tokens = torch.tensor([rollout.prompt_tokens])
    for token in rollout.tokens:
        out = model(
            tokens,
            past_key_values=cache,
            use_cache=True,
            depth_request=request,
            depth_seed=torch.tensor([rollout.seed]),
        )
        cache, tokens = out.past_key_values, torch.tensor([[token]])
        depths.append(int(out.depths[0, -1]))
        chances.append(float(out.depth_logprobs[0, -1]))
    return tuple(depths), tuple(chances)


@pytest.mark.parametrize("segment", [1, 4])
def test_sampled_depths_replay_from_the_trace(
    engine: NativeEngine, model: RecurrentForCausalLM, segment: int
) -> None:
    rollouts = run(engine, ruled("policy", 6, sampled=True, segment=segment, log_price=-0.5))
    assert gap(model, rollouts) < 1e-5
    for rollout in rollouts:
        assert rollout.depths is not None
        assert rollout.depth_logprobs == pytest.approx(
            replayed(model, rollout, segment=segment, cap=6, log_price=-0.5), abs=1e-5
        )
        for start in range(0, len(rollout.depths), segment):
            assert len(set(rollout.depths[start : start + segment])) == 1
    assert len({d for r in rollouts for d in r.depths or ()}) > 2


@torch.no_grad()
def replayed(
    model: RecurrentForCausalLM, rollout: Rollout, *, segment: int, cap: int, log_price: float
) -> list[float]:
    """Log-probability of each token's decisions, from the states of the parallel pass."""
    tokens, depths = recorded(rollout)
    states = model(tokens, depths=depths, output_hidden_states=True).hidden_states
    policy, price = model.model.halting, torch.tensor([log_price])
    assert policy is not None
    assert rollout.depths is not None
    logprobs = []
    for index, depth in enumerate(rollout.depths):
        position, total = len(rollout.prompt_tokens) - 1 + index, 0.0
        for iteration in range(1, min(depth, cap - 1) + 1):
            state, previous = states[iteration][:, position], states[iteration - 1][:, position]
            logit = policy(state, previous, torch.tensor([iteration]), price)
            total += float(F.logsigmoid(logit if iteration < depth else -logit))
        logprobs.append(0.0 if index % segment else total)
    return logprobs


def test_a_policy_that_is_not_sampled_has_no_chances(engine: NativeEngine) -> None:
    rollouts = run(engine, ruled("policy", 4))
    assert all(r.depth_logprobs is None for r in rollouts)
    same(rollouts, run(engine, ruled("policy", 4)))


def test_a_calibrated_model_runs_at_its_default_effort(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    keys = {
        "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
        "depth_calibration": [{"budget": 0.5, "log_price": 0.3}],
        "efforts": {"medium": 0.5},
    }
    for name, more in (("config.json", keys), ("generation_config.json", {"effort": "medium"})):
        file = tmp_path / "model" / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    calibrated = NativeEngine(tmp_path / "model", SETTINGS, version=0)
    requests = ruled("policy", 4, log_price=0.3)
    same(
        run(calibrated, [dataclasses.replace(r, depth=None) for r in requests]),
        run(calibrated, requests),
    )


def test_flops_follow_depth(engine: NativeEngine, model: RecurrentForCausalLM) -> None:
    shape = shape_of(model.config.to_dict())
    requests = ruled("policy", 4, sampled=True, segment=3)
    for request, rollout in zip(requests, run(engine, requests), strict=True):
        assert request.depth is not None
        assert rollout.depths is not None
        assert rollout.flops == rollout_flops(
            shape,
            prompt_tokens=len(request.prompt_tokens),
            depths=rollout.depths,
            request=request.depth,
        )


def test_groups_share_a_prompt(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataclasses.replace(mixed(6)[5], max_tokens=8)
    group = [dataclasses.replace(first, sample=i, seed=i) for i in range(4)]
    deeper = DepthRequest(depth=2, prompt_depth=6)
    group.append(dataclasses.replace(first, sample=4, depth=deeper))
    alone = [run(engine, [request])[0] for request in group]
    session = engine.generate(group, version=0)
    together = [next(session)]
    length = len(first.prompt_tokens) - 1
    assert length > 1
    held = engine.pool.dense.entries - engine.pool.dense.free
    assert held <= 2 * length + 5 * first.max_tokens  # two prompt depths, five completions
    together += list(session)
    same(alone, sorted(together, key=lambda r: r.sample))
    assert_all_free(engine)


def test_a_small_pool_waits_and_gives_the_same(engine: NativeEngine, folder: Path) -> None:
    requests = mixed(12)
    entry_gib = 2 * 64 * 4 / 2**30  # keys and values of one layer, 64 wide, in float32
    settings = dataclasses.replace(SETTINGS, kv_cache_gib=50 * (2 + 3 * 2) * entry_gib)
    small = NativeEngine(folder, settings, version=0)
    assert small.pool.core.entries == 150
    same(run(engine, requests), run(small, requests))
    too_long = dataclasses.replace(requests[0], max_tokens=52, depth=DepthRequest(depth=3))
    with pytest.raises(ValueError, match=r"needs 156 entries .* raise kv_cache_gib"):
        next(small.generate([too_long], version=0))


def test_untied_tokens_take_an_entry_of_every_iteration(tmp_path: Path) -> None:
    """Whatever depth they run at: the pool promises and counts so."""
    build(tmp_path, tie_iterations=False)
    requests = mixed(12)
    entry_gib = 2 * 64 * 4 / 2**30
    settings = dataclasses.replace(SETTINGS, kv_cache_gib=40 * (2 + 6 * 2) * entry_gib)
    small = NativeEngine(tmp_path, settings, version=0)
    assert (small.pool.core.entries, small.pool.dense.entries) == (240, 40)
    same(run(NativeEngine(tmp_path, SETTINGS, version=0), requests), run(small, requests))
    too_long = dataclasses.replace(requests[0], max_tokens=41, depth=DepthRequest(depth=1))
    with pytest.raises(ValueError, match=r"needs 246 entries .* or lower max_tokens$"):
        next(small.generate([too_long], version=0))


def test_sequences_stop_at_every_eos_and_at_their_length(tmp_path: Path) -> None:
    build(tmp_path, eos=EOS)
    free = run(NativeEngine(tmp_path, SETTINGS, version=0), mixed(18))
    other = next(r.tokens[3] for r in free if r.stop == "length")
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": [{other}]}}')
    for request, rollout, long in zip(
        mixed(18), run(NativeEngine(tmp_path, SETTINGS, version=0), mixed(18)), free, strict=True
    ):
        ends = [t for t, token in enumerate(long.tokens) if token in (EOS, other)]
        assert rollout.tokens == long.tokens[: ends[0] + 1 if ends else request.max_tokens]
        assert rollout.stop == ("eos" if ends else "length")
        assert len(rollout.logprobs) == len(rollout.depths or ()) == len(rollout.tokens)


@pytest.mark.parametrize("folder", [True, False], ids=["tied", "untied"], indirect=True)
def test_an_abandoned_generation_frees_everything(engine: NativeEngine) -> None:
    abandoned: Any = engine.generate(mixed(20), version=0)
    next(abandoned)
    assert engine.pool.core.free < engine.pool.core.entries
    with pytest.raises(RuntimeError, match="while a generation runs"):
        next(engine.generate(mixed(1), version=0))
    abandoned.close()
    assert_all_free(engine)
    run(engine, mixed(2))
