"""The plan of a batch's rows, and the caches behind them. No engine runs here."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.vllm_plugin import hooks
from pipeline.recurrent.vllm_plugin.paging import Planes
from pipeline.recurrent.vllm_plugin.row_depths import DepthLog, Rows, TrackedRequest, plan_rows
from pipeline.recurrent.vllm_plugin.state import RecurrentModelState


def tracked(request: DepthRequest, *, prompt: int = 4, ran: tuple[int, ...] = ()) -> TrackedRequest:
    return TrackedRequest(request, 0, prompt, list(ran), [0.0] * len(ran))


def plan(*requests: TrackedRequest, lengths: list[int], computed: list[int]) -> Rows:
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return plan_rows(requests, starts, np.array(computed))


def test_prompt_rows_run_at_the_prefill_depth_and_the_last_by_the_rule() -> None:
    rows = plan(
        tracked(DepthRequest(depth=5, prompt_depth=2)),
        tracked(DepthRequest(rule="schedule", depth=3, schedule=(7, 6))),
        lengths=[4, 1],
        computed=[0, 4],
    )
    assert rows.position.tolist() == [0, 1, 2, 3, 4]
    assert rows.owner.tolist() == [0, 0, 0, 0, 1]
    assert rows.token.tolist() == [-3, -2, -1, 0, 1]
    assert rows.cap.tolist() == [2, 2, 2, 5, 6]
    assert not rows.by_rule.any()


def test_a_preempted_request_replays_its_depths_and_then_decides() -> None:
    rule = DepthRequest(rule="policy", depth=8, prompt_depth=2, sampled=True)
    rows = plan(tracked(rule, ran=(3, 1)), lengths=[6], computed=[0])
    assert rows.cap.tolist() == [2, 2, 2, 3, 1, 8]
    assert rows.by_rule.tolist() == [False] * 5 + [True]


def test_a_segment_follows_its_first_decision() -> None:
    rule = DepthRequest(rule="policy", depth=8, segment=3)
    for ran, (cap, decides) in {
        (): (8, True),
        (4,): (4, False),
        (4, 4): (4, False),
        (4, 4, 4): (8, True),
        (4, 4, 4, 2): (2, False),
    }.items():
        rows = plan(tracked(rule, ran=ran), lengths=[1], computed=[3 + len(ran)])
        assert (rows.cap[0], rows.by_rule[0]) == (cap, decides)


def test_what_ran_is_recorded_once() -> None:
    request = tracked(DepthRequest(depth=5), ran=(5,))
    rows = plan(request, lengths=[5], computed=[0])
    rows.record(np.arange(5), np.array([5, 5, 5, 9, 4]), np.zeros(5))
    assert request.depths == [5, 4]


def test_readout_rules_wait_for_the_prompt_before_them() -> None:
    reads = tracked(DepthRequest(rule="kl", depth=5, threshold=0.1))
    plain = tracked(DepthRequest(depth=5))
    together = plan(reads, plain, lengths=[4, 4], computed=[0, 0])
    assert [p.tolist() for p in together.phases()] == [[0, 1, 2, 4, 5, 6, 7], [3]]
    decoding = plan(reads, plain, lengths=[1, 1], computed=[4, 4])
    assert [p.tolist() for p in decoding.phases()] == [[0, 1]]


def test_the_log_reads_extra_args_once_and_forgets_what_was_taken() -> None:
    log = DepthLog(num_iterations=4, max_iterations=8)
    extra = {"depth": {"rule": "schedule", "depth": 2, "schedule": [3, 1]}}
    first = log.track("a", extra, seed=None, prompt_tokens=3)
    assert first.request == DepthRequest(rule="schedule", depth=2, schedule=(3, 1))
    assert log.track("a", None, seed=1, prompt_tokens=9) is first
    assert log.track("b", None, seed=1, prompt_tokens=9).request == DepthRequest(depth=4)
    first.depths.append(3)
    assert log.take(["a", "unknown"]) == [([3], []), ([], [])]
    log.keep([])
    assert len(log) == 0


def test_a_depth_beyond_the_planes_is_refused() -> None:
    log = DepthLog(num_iterations=4, max_iterations=8)
    with pytest.raises(ValueError, match="depth of 9 was asked of a model with max_iterations=8"):
        log.track("a", {"depth": {"depth": 9}}, seed=None, prompt_tokens=3)


def test_an_effort_is_looked_up_in_the_models_calibration() -> None:
    config = {
        "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
        "depth_calibration": [{"budget": 0.3, "log_price": 0.5}, {"budget": 0.6, "log_price": -1}],
        "efforts": {"low": 0.3},
    }
    log = DepthLog(num_iterations=4, max_iterations=8, config=config)
    low = log.track("a", {"depth": {"effort": "low"}}, seed=1, prompt_tokens=3).request
    assert (low.rule, low.depth, low.prefill_depth, low.log_price) == ("policy", 6, 2, 0.5)
    half = log.track("b", {"depth": {"budget": 0.45}}, seed=1, prompt_tokens=3).request
    assert half.log_price == pytest.approx(-0.25)
    plain = DepthLog(num_iterations=4, max_iterations=8)
    with pytest.raises(ValueError, match="a depth stage writes it"):
        plain.track("a", {"depth": {"effort": "low"}}, seed=1, prompt_tokens=3)


class Writer:
    """A backend that writes to caches [blocks, heads, block tokens, 2 * head size]."""

    def do_kv_cache_update(
        self, layer: Any, key: Tensor, value: Tensor, cache: Tensor, slots: Tensor
    ) -> None:
        block_tokens = cache.shape[2]
        block, place = slots // block_tokens, slots % block_tokens
        cache[block, :, place] = torch.cat((key, value), dim=-1)


def planes(caches: list[Tensor]) -> Planes:
    layers = [
        SimpleNamespace(kv_cache=c, impl=Writer(), num_kv_heads=2, head_size=4) for c in caches
    ]
    return Planes([layers[i : i + 2] for i in range(0, len(layers), 2)])  # type: ignore[arg-type]


def test_one_write_reaches_all_later_planes_wherever_they_lie() -> None:
    together = torch.zeros(6, 3, 2, 8, 8)  # [layers, blocks, heads, block tokens, 2 * head size]
    apart = [torch.zeros(3, 2, 8, 8) for _ in range(6)]
    interleaved = torch.zeros(3, 6, 2, 8, 8)
    keys, values = torch.randn(2, 2, 5, 2, 4)
    slots = torch.tensor([3, 4, 9, 16, 23])
    for caches in (list(together), apart, list(interleaved.unbind(1))):
        planes(caches).fill(1, keys, values, slots)
    assert not together[:2].any()
    for plane in (1, 2):
        for layer in (0, 1):
            cache = together[2 * plane + layer]
            written = cache[slots // 8, :, slots % 8]
            assert torch.equal(written, torch.cat((keys[layer], values[layer]), dim=-1))
    assert torch.equal(together, torch.stack(apart))
    assert torch.equal(together, interleaved.transpose(0, 1))


def test_a_vllm_without_the_hooks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks.install()
    hooks.require(v2=False)
    monkeypatch.setattr(hooks, "_installed", {hooks.PREEMPTION})
    hooks.require(v2=True)
    with pytest.raises(RuntimeError, match="has no _init_model_kwargs, through which"):
        hooks.require(v2=False)


def test_the_v2_state_tells_the_model_whose_rows_it_runs() -> None:
    state = object.__new__(RecurrentModelState)  # its own needs a GPU
    log = DepthLog(num_iterations=4, max_iterations=8)
    vars(state).update(model=SimpleNamespace(depths=log), rope_state=None, prompt_embeds_state=None)
    params = SimpleNamespace(extra_args={"depth": {"depth": 6, "prompt_depth": 2}}, seed=3)
    new: Any = SimpleNamespace(req_id="a", sampling_params=params, prompt_token_ids=[5, 6, 7])
    state.add_request(0, new)
    vars(state).update(_block_table=torch.zeros(4, 2, dtype=torch.int32), _builder="builder")
    held: Any = SimpleNamespace(
        req_ids=["a", "trial"],
        num_reqs=2,
        query_start_loc_np=np.array([0, 3, 4], dtype=np.int32),
        num_computed_tokens_np=np.array([0, 0], dtype=np.int32),
    )
    batch = state.prepare_inputs(held, None)["batch"]  # type: ignore[arg-type]
    assert batch.rows.cap.tolist() == [2, 2, 6, 4]
    assert batch.block_table.shape == (2, 2)
    assert len(log) == 1
    state.remove_request("a")
    assert len(log) == 0
