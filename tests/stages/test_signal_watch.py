"""A stage without signal says so early, and not too often."""

from pipeline.stages.signal_watch import SignalWatch


def warnings_of(shares: list[float], *, reward: float) -> tuple[list[int], SignalWatch]:
    """The steps, from 1, at which a watch says something, and the watch."""
    watch = SignalWatch()
    rows = [{"zero_variance_share": share, "reward": reward} for share in shares]
    steps = [step for step, row in enumerate(rows, start=1) if watch.see(row) is not None]
    return steps, watch


def last_sentence(reward: float) -> str:
    watch = SignalWatch()
    return [watch.see({"zero_variance_share": 1.0, "reward": reward}) or "" for _ in range(3)][-1]


def test_three_flat_steps_are_named_and_then_ten_times_as_many() -> None:
    steps, watch = warnings_of([1.0] * 320, reward=0.0)
    assert steps == [3, 30, 300]
    assert watch.summary() is not None


def test_one_group_with_variance_begins_the_count_anew() -> None:
    assert warnings_of([1.0, 1.0, 0.9, 1.0, 1.0, 1.0], reward=0.0)[0] == [6]
    assert warnings_of([1.0, 1.0, 0.5] * 10, reward=0.0)[0] == []


def test_the_sentence_has_the_reward_and_what_to_do() -> None:
    assert "all about 0" in last_sentence(0.0)
    assert "easier prompts" in last_sentence(0.0)
    assert "harder prompts" in last_sentence(1.0)


def test_rows_of_other_stages_say_nothing() -> None:
    watch = SignalWatch()
    assert [watch.see({"loss": 1.0}) for _ in range(9)] == [None] * 9
    assert watch.summary() is None


def test_the_summary_is_for_stages_that_were_mostly_flat() -> None:
    assert warnings_of([1.0, 0.0, 0.0], reward=0.5)[1].summary() is None
    summary = warnings_of([1.0, 1.0, 0.0], reward=0.5)[1].summary()
    assert summary is not None
    assert summary.startswith("2 of 3 steps")
