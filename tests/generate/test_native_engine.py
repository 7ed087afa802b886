"""The native engine against the model: log-probabilities, depths, independence of the batch."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.generate.engine import EngineSettings, Part, WeightVersionError
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.weights import folder_weights, pack, unpack
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import RULES, DepthRequest
from pipeline.recurrent.shape import rollout_flops, shape_of

VOCABULARY = 97
EOS = 5
SETTINGS = EngineSettings(
    max_model_tokens=64,
    max_sequences=8,
    device="cpu",
    dtype="float32",
    kv_cache_gib=0.25,
    gpus=1,
    gpu_memory_fraction=0.5,
)
THRESHOLDS = {
    "kl": 0.02,
    "latent": 0.3,
    "entropy": 4.1,
    "second_order": 0.35,
    "q_exit": 0.8,
    "right": 0.5,
}
UNTIED = THRESHOLDS | {"kl": 0.5, "latent": 1.0, "second_order": 1.6}
"""Blocks of their own do not settle: each moves the state as far as the one before."""


def build(folder: Path, *, eos: int | list[int] | None = None, **options: Any) -> Path:
    """A random recurrent model whose norms, gates and policy all matter."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_iterations=3,
        max_iterations=6,
        halting_width=8,
        exit_gate=True,
        eos_token_id=eos,
        **options,
    )
    model = RecurrentForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


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


def mixed(count: int, *, max_tokens: int = 12, temperature: float = 1.0) -> list[Request]:
    """Uneven prompts; depths uniform, by request, or by token, and prompt depths of their own."""
    draw = torch.Generator().manual_seed(1)
    requests = []
    for i in range(count):
        prompt = torch.randint(0, VOCABULARY, (1 + 5 * i % 14,), generator=draw)
        schedule = tuple(torch.randint(1, 7, (9,), generator=draw).tolist())
        depth = (
            None,
            DepthRequest(depth=1 + i % 6, prompt_depth=1 + i % 4),
            DepthRequest(rule="schedule", depth=4, prompt_depth=1 + i % 5, schedule=schedule),
        )[i % 3]
        requests.append(
            Request(
                prompt_id=str(i),
                prompt_tokens=tuple(prompt.tolist()),
                sample=i,
                seed=2**62 + 7919 * i,
                max_tokens=max_tokens - i % 3,
                temperature=temperature,
                depth=depth,
            )
        )
    return requests


def ruled(rule: str, count: int, **options: object) -> list[Request]:
    """Requests under one rule."""
    usual: dict[str, Any] = {
        "depth": 6,
        "prompt_depth": 2,
        "threshold": THRESHOLDS.get(rule),
        "schedule": (2, 5, 1) if rule == "schedule" else (),
    }
    depth = DepthRequest(rule=rule, **(usual | options))  # type: ignore[arg-type]
    return [dataclasses.replace(request, depth=depth) for request in mixed(count)]


def run(engine: NativeEngine, requests: Sequence[Request], *, version: int = 0) -> list[Rollout]:
    """Rollouts in the order of the requests' samples, from a pool that ends all free."""
    rollouts = sorted(engine.generate(requests, version=version), key=lambda r: r.sample)
    assert_all_free(engine)
    return rollouts


def assert_all_free(engine: NativeEngine) -> None:
    for store in (engine.pool.core, engine.pool.dense):
        assert store.free == store.entries
        assert store.promised == 0


def recorded(rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and depths [1, _P + _T]; the last token never ran."""
    assert rollout.depths is not None
    assert rollout.prompt_depth is not None
    prompt = [rollout.prompt_depth] * (len(rollout.prompt_tokens) - 1)
    tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.tokens]])
    return tokens, torch.tensor([[*prompt, *rollout.depths, 1]])


@torch.no_grad()
def gap(
    model: RecurrentForCausalLM, rollouts: Sequence[Rollout], *, temperature: float = 1.0
) -> float:
    """Largest difference in nats between recorded log-probabilities and the parallel replay's."""
    worst = 0.0
    for rollout in rollouts:
        tokens, depths = recorded(rollout)
        logits = model(tokens, depths=depths).logits[0, len(rollout.prompt_tokens) - 1 : -1]
        replayed = (logits / temperature).log_softmax(-1)
        taken = replayed.gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
        worst = max(worst, (taken - torch.tensor(rollout.logprobs)).abs().max().item())
    return worst


def same(one: Sequence[Rollout], other: Sequence[Rollout]) -> None:
    """Equal but for float rounding."""
    for a, b in zip(one, other, strict=True):
        assert (a.sample, a.tokens, a.depths, a.stop) == (b.sample, b.tokens, b.depths, b.stop)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.flops == b.flops


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


def test_new_weights_are_used_and_old_versions_refused(
    folder: Path, model: RecurrentForCausalLM
) -> None:
    engine = NativeEngine(folder, SETTINGS, version=0)
    changed = RecurrentForCausalLM.from_pretrained(folder).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw)
    engine.load_weights(unpack(pack(changed.state_dict())), version=1)
    rollouts = run(engine, mixed(9), version=1)
    assert {r.weight_version for r in rollouts} == {1}
    assert gap(changed, rollouts) < 1e-5
    assert gap(model, rollouts) > 1e-2
    with pytest.raises(WeightVersionError, match="holds weight version 1, rollouts of 0"):
        next(engine.generate(mixed(1), version=0))
    engine.load_weights(folder_weights(folder), version=2)  # a tied head comes along
    assert gap(model, run(engine, mixed(9), version=2)) < 1e-5
    with pytest.raises(ValueError, match=r"hold model.nowhere of shape \(1,\)"):
        engine.load_weights([("model.nowhere", torch.zeros(1))], version=3)
    for version in (2, 3):
        with pytest.raises(WeightVersionError, match="holds a part of new weights"):
            next(engine.generate(mixed(1), version=version))


def test_a_part_of_new_weights_is_served_by_nobody(folder: Path) -> None:
    engine, other = (NativeEngine(folder, SETTINGS, version=0) for _ in range(2))
    weights = [(name, tensor + 0.01) for name, tensor in folder_weights(folder)]
    other.load_weights(weights, version=1)
    for parts in (1, 2, 3):  # of three: two syncs that break off, then all of it again
        for number in range(parts):
            part = Part(first=number == 0, last=number == 2)
            engine.load_weights(weights[number::3], version=1, part=part)
            if part.last:
                break
            for version in (0, 1):
                with pytest.raises(WeightVersionError, match="send all of them again"):
                    next(engine.generate(mixed(1), version=version))
    rows = [run(one, mixed(9), version=1) for one in (engine, other)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_tokens": ()}, "at least one prompt token"),
        ({"max_tokens": 64}, "over max_model_tokens=64"),
        ({"depth": DepthRequest(depth=7)}, "over the model's max_iterations=6"),
    ],
)
def test_impossible_requests_are_refused(
    engine: NativeEngine, change: dict[str, object], message: str
) -> None:
    request = dataclasses.replace(mixed(1)[0], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        next(engine.generate([request], version=0))


def test_rules_without_their_weights_are_refused(tmp_path: Path) -> None:
    build(tmp_path)
    model = RecurrentForCausalLM.from_pretrained(tmp_path)
    config = model.config
    config.halting_width, config.exit_gate = None, False
    RecurrentForCausalLM(config).save_pretrained(tmp_path)
    engine = NativeEngine(tmp_path, SETTINGS, version=0)
    for rule, lack in (
        ("policy", "a halting policy"),
        ("right", "a halting policy"),
        ("q_exit", "an exit gate"),
    ):
        with pytest.raises(ValueError, match=lack):
            next(engine.generate(ruled(rule, 1), version=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_planes": 2}, "set kv_planes to null"),
        ({"warm_start": True}, "set warm_start to false"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "static"),
    ],
)
def test_models_that_it_cannot_serve_exactly_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    build(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        NativeEngine(tmp_path, SETTINGS, version=0)
