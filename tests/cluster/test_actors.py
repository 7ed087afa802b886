"""What the actors say in their logs; the processes themselves are tested with whole runs."""

from pathlib import Path

from pipeline.cluster.actors import _shape_of, recognised
from pipeline.cluster.setups import ServiceSetup
from pipeline.generate.service import RewardUse
from pipeline.recurrent.explore import RIGHT_HEAD
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


def test_an_engine_that_read_another_head_is_not_used_again(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    shapes = [_shape_of(tmp_path)]
    (tmp_path / RIGHT_HEAD).parent.mkdir()
    for head in ("one", "another", "another"):
        (tmp_path / RIGHT_HEAD).write_text(head)
        shapes.append(_shape_of(tmp_path))
    assert len(set(shapes)) == 3
    assert shapes[2] == shapes[3]
