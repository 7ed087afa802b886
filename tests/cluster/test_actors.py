"""What the actors say in their logs; the processes themselves are tested with whole runs."""

from pathlib import Path

from pipeline.cluster.actors import recognised
from pipeline.cluster.setups import ServiceSetup
from pipeline.generate.service import RewardUse
from rewards.pool import Pool


def test_a_users_reward_is_recognised_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(prompts, completions, **_): return [1.0]\n")
    refs = ("mine.py:f", "builtin:exact_match", "mine.py:f")
    setup = ServiceSetup(
        model=tmp_path,
        rewards=tuple(RewardUse(name=ref, ref=ref, weight=1.0, args={}) for ref in refs),
        preface={},
        base=tmp_path,
        verifier_workers=1,
    )
    with Pool(1) as pool:
        lines = list(recognised(pool, setup))
    assert lines == ["reward mine.py:f: recognised as trl; version 0, process"]
