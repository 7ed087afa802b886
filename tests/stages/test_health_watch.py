"""Signs of a training that goes wrong are told once; a healthy one has none."""

import pytest

from pipeline.stages.health_watch import HISTORY, HealthWatch


def told(*rows: dict[str, float]) -> list[str]:
    watch = HealthWatch()
    return [text for step, row in enumerate(rows) for text in watch.see({"step": step, **row})]


def values(key: str, *numbers: float) -> list[dict[str, float]]:
    return [{key: number} for number in numbers]


def entropies(*numbers: float, **rewards: float) -> list[dict[str, float]]:
    named = {f"reward/{name}": value for name, value in (rewards or {"answer": 0.4}).items()}
    return [{**row, **named, "reward/format": 1.0} for row in values("entropy", *numbers)]


def test_a_healthy_training_has_no_signs() -> None:
    rewards = [0.1 + 0.04 * step for step in range(20)]
    assert told(*values("reward", *rewards)) == []
    assert told(*values("reward", *[0.05, 0.0] * 20)) == []  # nothing was there to collapse
    assert told(*values("entropy", *[0.3, 0.2, 0.1, 0.05] * 5)) == []
    assert told(*entropies(*[0.01] * 20)) == []  # so it began
    assert told(*values("entropy", 0.3, *[0.01] * 9)) == []  # no reward: an SFT
    assert told(*entropies(0.3, *[0.01] * 9, answer=0.97)) == []  # samples agree and are right
    assert told(*entropies(0.3, *[0.01] * 9, answer=0.97, preference=-2.1)) == []
    assert told(*values("kl", *[0.9] * 20)) == []
    assert told(*values("grad_norm", *[0.0] * HISTORY, 5.0)) == []
    assert told(*values("grad_norm", *[1.0] * 3, 500.0)) == []  # too early to tell
    assert told({"loss": 1.0}) == []
    assert told(*values("unscored_share", 0.0, 0.0)) == []


@pytest.mark.parametrize(
    ("rows", "saw", "advice"),
    [
        (values("unscored_share", 0.0, 0.004), "0.40% of the samples of step 1", "rollouts.log"),
        (values("reward", *[0.8] * 6, *[0.1] * 9), "0.38 over 5 steps, and 0.8", "lower lr"),
        (
            entropies(*[0.5] * 3, *[0.01] * 9),
            "0.01 nats a token, from 0.5, with reward/answer",
            "clip",
        ),
        (values("kl", 0.1, 3.0, 4.0), "3 nats a token from its reference at step 1", "raise kl"),
        (values("grad_norm", *[0.5] * 12, 60.0, 90.0), "60 at step 12, and 0.5", "odd rows"),
    ],
)
def test_each_sign_is_told_once_with_what_people_do(
    rows: list[dict[str, float]], saw: str, advice: str
) -> None:
    (sentence,) = told(*rows)
    assert saw in sentence
    assert advice in sentence
