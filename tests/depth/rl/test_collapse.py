"""What counts as a policy that no longer chooses."""

import numpy as np

from pipeline.depth.rl.collapse import alarms, mutual_information, spread

PROMPTS = [f"p{i // 4}" for i in range(64)]


def test_depths_that_follow_the_prompt_carry_information() -> None:
    rng = np.random.default_rng(0)
    by_prompt = [[1 + (i // 4) % 3, int(rng.integers(1, 4))] * 5 for i in range(64)]
    excess, z = mutual_information(by_prompt, PROMPTS, log_prices=[0.0] * 64, seed=1)
    assert excess > 0.1
    assert z > 5


def test_chance_is_subtracted() -> None:
    rng = np.random.default_rng(0)
    found = [
        mutual_information(
            rng.integers(1, 5, (64, 6)).tolist(), PROMPTS, log_prices=[0.0] * 64, seed=s
        )[0]
        for s in range(5)
    ]
    assert abs(float(np.mean(found))) < 0.02


def test_the_prices_part_is_subtracted() -> None:
    """Depth follows the price, and with it the prompt, but nothing else of the prompt."""
    rng = np.random.default_rng(0)
    prices = [float((i // 4) // 4) for i in range(64)]
    depths = [(1 + int(p) + rng.integers(0, 2, 8)).tolist() for p in prices]
    inside, _ = mutual_information(depths, PROMPTS, log_prices=prices, seed=1)
    without, _ = mutual_information(depths, PROMPTS, log_prices=[0.0] * 64, seed=1)
    assert without > 0.3
    assert abs(inside) < 0.02


def test_alarms() -> None:
    assert alarms(depth_std=1.0, information_z=5.0) == []
    assert "nearly the same depth" in alarms(depth_std=0.01, information_z=5.0)[0]
    assert "nothing about the prompt" in alarms(depth_std=1.0, information_z=0.5)[0]
    same, z = mutual_information([[2, 2]] * 8, PROMPTS[:8], log_prices=[0.0] * 8, seed=0)
    assert (same, z) == (0.0, 0.0)


def test_spread_over_tokens_and_prompts() -> None:
    assert spread([[1, 3], [1, 3]], ["a", "b"]) == (2.0, 1.0, 0.0)
    assert spread([[1], [3]], ["a", "b"]) == (2.0, 1.0, 1.0)
