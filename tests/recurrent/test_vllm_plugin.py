"""The plan of a batch's rows, and the caches behind them. No engine runs here."""

import numpy as np
import pytest

from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.vllm_plugin.depths import DepthLog, Rows, Tracked, plan_rows


def tracked(request: DepthRequest, *, prompt: int = 4, ran: tuple[int, ...] = ()) -> Tracked:
    return Tracked(request, 0, prompt, list(ran), [0.0] * len(ran))


def plan(*requests: Tracked, lengths: list[int], computed: list[int]) -> Rows:
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
    assert not rows.deciding.any()


def test_a_preempted_request_replays_its_depths_and_then_decides() -> None:
    rule = DepthRequest(rule="policy", depth=8, prompt_depth=2, sampled=True)
    rows = plan(tracked(rule, ran=(3, 1)), lengths=[6], computed=[0])
    assert rows.cap.tolist() == [2, 2, 2, 3, 1, 8]
    assert rows.deciding.tolist() == [False] * 5 + [True]


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
        assert (rows.cap[0], rows.deciding[0]) == (cap, decides)


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
    asked = {"depth": {"rule": "schedule", "depth": 2, "schedule": [3, 1]}}
    first = log.tracked("a", asked, seed=None, prompt_tokens=3)
    assert first.request == DepthRequest(rule="schedule", depth=2, schedule=(3, 1))
    assert log.tracked("a", None, seed=1, prompt_tokens=9) is first
    assert log.tracked("b", None, seed=1, prompt_tokens=9).request == DepthRequest(depth=4)
    first.depths.append(3)
    assert log.take(["a", "unknown"]) == [([3], []), ([], [])]
    log.keep([])
    assert len(log) == 0


def test_a_depth_beyond_the_planes_is_refused() -> None:
    log = DepthLog(num_iterations=4, max_iterations=8)
    with pytest.raises(ValueError, match="depth of 9 was asked of a model with max_iterations=8"):
        log.tracked("a", {"depth": {"depth": 9}}, seed=None, prompt_tokens=3)
