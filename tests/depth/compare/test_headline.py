"""The comparison in a few sentences."""

from dataclasses import replace

from pipeline.depth.compare.depth_report import Fronts, GainAt, Need, PromptsReport
from pipeline.depth.compare.headline import headline


def gain(points: float) -> GainAt:
    return GainAt(
        gain=points / 100,
        ci_low=points / 100 - 0.01,
        ci_high=points / 100 + 0.02,
        by_seed=[points / 100],
        p_seeds=None,
    )


REPORT = PromptsReport(
    fronts=Fronts(
        gain_at={"1.5": {"fixed": gain(12), "kl": gain(8), "labels": gain(0.5)}},
        hull_area=0.0,
        hull_area_ci=[0, 0],
        hull_area_by_method={},
        hypervolume={},
        hypervolume_ci={},
        iterations_saved=None,
        flops_saved=0.31,
        flops_saved_ci=[0.2, 0.35],
        reference={},
    ),
    need=Need(),
    max_saving=0.49,
    problems=3,
    methods={},
)


def test_it_names_the_nearest_rival_and_what_can_be_saved() -> None:
    assert list(headline(REPORT)) == [
        "at the FLOPs of mean depth 1.5: +12.0 points (+11.0 to +14.0) over mixed fixed depths, "
        "+0.5 points (-0.5 to +2.5) over head from labels alone, the nearest rival",
        "31% of FLOPs saved (20% to 35%) within a point of the best fixed accuracy; of a "
        "full-depth answer 49% at most",
    ]


def test_without_rivals_or_savings_it_says_less() -> None:
    few = replace(
        REPORT.fronts,
        gain_at={"2": {"fixed": gain(3)}},
        flops_saved=None,
    )
    assert list(headline(replace(REPORT, fronts=few))) == [
        "at the FLOPs of mean depth 2: +3.0 points (+2.0 to +5.0) over mixed fixed depths",
        "no FLOPs saved within a point of the best fixed accuracy",
    ]
