"""The bench of the rollout service in small: it counts, and nothing in it grows."""

from tests.bench.service import TARGET, measure


def test_the_service_is_fast_enough_and_flat() -> None:
    """A tenth of the target: other work may share the cores."""
    figures = measure(5120)
    assert figures["rollouts"] == 5120
    assert figures["rollouts_per_min_per_core"] > TARGET / 10
    assert figures["rss_growth_mb"] < 30
