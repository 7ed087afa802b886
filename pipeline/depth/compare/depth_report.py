"""What a depth stage found out, as dataclasses and as the flat JSON document `depth`.

The stage makes it, `stepwell run --json` prints it, and the report shows it. A field's name is its
key in the document. An `Estimate` is [estimate, low, high], a `Span` [low, high]: 95 % intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, TypedDict

Rows = Sequence[Mapping[str, Any]]
Estimate = Sequence[float]
Span = Sequence[float]


class Keys:
    """Fields that are keys of one flat document."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From a document that has other keys beside these.

        Raises TypeError where one without a default is missing.
        """
        names = {f.name for f in fields(cls)}  # pyright: ignore[reportArgumentType]
        return cls(**{name: document[name] for name in names & document.keys()})


@dataclass(frozen=True, kw_only=True)
class HeadroomSummary(Keys):
    """What an oracle gains over mixed fixed depths: `pipeline.measure.headroom` in short."""

    verdict: str
    reason: str
    points: float | None = None  # hundredths of accuracy, the largest gain at equal cost
    points_ci: Span | None = None
    oracle_points: float | None = None  # each problem at its cheapest right depth
    by_depth: Rows = field(default_factory=list)  # `Measurement.summary` of every fixed depth


class GainAt(TypedDict):
    """The policy's accuracy less another method's at equal FLOPs, 1 being a right answer."""

    gain: float
    ci_low: float
    ci_high: float
    by_seed: Sequence[float]  # of each seed of the policy by itself
    p_seeds: float | None  # `pipeline.measure.resampling.sign_flip_p`


@dataclass(frozen=True, kw_only=True)
class Fronts(Keys):
    """Accuracy against compute; `fronts.fronts` says how each is measured.

    `_at`: by mean depth, whose FLOPs are the cost at which all are compared, and by method.
    """

    gain_at: Mapping[str, Mapping[str, GainAt]] = field(default_factory=dict)
    accuracy_at: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    flops_at: Mapping[str, float] = field(default_factory=dict)
    hull_area: float  # of the policy
    hull_area_ci: Span
    hull_area_by_method: Mapping[str, Estimate]
    hypervolume: Mapping[str, float]
    hypervolume_ci: Mapping[str, Span]
    hypervolume_difference: Mapping[str, Estimate] = field(default_factory=dict)  # to the policy's
    iterations_saved: float | None  # share; None: never within a point of the best
    iterations_saved_ci: Span | None = None
    iterations_saved_accuracy: Estimate | None = None  # less the best fixed depth's
    flops_saved: float | None
    flops_saved_ci: Span | None = None
    flops_saved_accuracy: Estimate | None = None
    reference: Mapping[str, float]  # the cheapest fixed depth within a point of the best
    best_fixed: Mapping[str, float] = field(default_factory=dict)  # the most accurate one


@dataclass(frozen=True, kw_only=True)
class Need(Keys):
    """How well depth followed need, over positions whose needed steps are known; None: unknown.

    Of the policy, all seeds, at the setting of the largest stated mean depth.
    """

    spearman: float | None = None  # depth and steps, where the answer depends on them
    spearman_ceiling: float | None = None  # an oracle's, see `need.need`
    spearman_all: float | None = None  # everywhere; where nothing depends on it one step is needed
    waste: float | None = None  # share of the iterations that ran beyond need
    shortfall: float | None = None  # share of the needed iterations that did not run
    depth_asked: float | None = None  # mean, where the answer depends on it
    depth_idle: float | None = None  # elsewhere
    iterations_by_steps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Slider(Keys):
    """Budgets that nothing was measured for, and what they spent; None: nothing to slide."""

    budget_error: float | None = None  # largest miss, as a share of the range of budgets
    cheapest_depth: float | None = None  # mean depth that the least budget spends
    monotone: bool | None = None  # a greater budget never spends less
    budgets: Rows = field(default_factory=list)  # {budget, spent}, shares of the full depth


@dataclass(frozen=True, kw_only=True)
class Calibration(Keys):
    """What goes into the model's configuration; `pipeline.recurrent.effort` reads it there."""

    depth_policy: Mapping[str, Any]
    depth_calibration: Rows  # {budget, log_price, mean_depth, accuracy, flops}, by rising budget
    efforts: Mapping[str, float]  # budgets by name


@dataclass(frozen=True, kw_only=True)
class PromptsReport:
    """The policy and other methods on one set of prompts."""

    fronts: Fronts
    need: Need
    max_saving: float | None = None  # share of a full-depth answer's FLOPs that iterates beyond 1
    problems: int
    left_out: int = 0  # further ones, which could not be scored at some setting
    methods: Mapping[str, Rows]  # every setting that was measured

    def document(self) -> dict[str, Any]:
        """Flat, as JSON has it."""
        return {
            **asdict(self.fronts),
            **asdict(self.need),
            "max_saving": self.max_saving,
            "problems": self.problems,
            "left_out": self.left_out,
            "methods": self.methods,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `document`."""
        return cls(
            fronts=Fronts.read(document),
            need=Need.read(document),
            max_saving=document.get("max_saving"),
            problems=document["problems"],
            left_out=document.get("left_out", 0),
            methods=document["methods"],
        )


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """Part 8: all methods on the held-out prompts, and the policy elsewhere."""

    held_out: PromptsReport
    oracle: HeadroomSummary
    slider: Slider
    seeds: Sequence[int]
    transfer: Mapping[str, PromptsReport]  # by prompts entry

    def document(self) -> dict[str, Any]:
        """Flat, as JSON has it."""
        return {
            **self.held_out.document(),
            **asdict(self.slider),
            "oracle": asdict(self.oracle),
            "seeds": self.seeds,
            "transfer": {entry: report.document() for entry, report in self.transfer.items()},
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `document`."""
        transfer = document["transfer"].items()
        return cls(
            held_out=PromptsReport.read(document),
            oracle=HeadroomSummary.read(document["oracle"]),
            slider=Slider.read(document),
            seeds=document["seeds"],
            transfer={entry: PromptsReport.read(report) for entry, report in transfer},
        )


@dataclass(frozen=True, kw_only=True)
class DepthReport:
    """All that a depth stage has to tell. Without headroom it ends before anything is compared."""

    headroom: HeadroomSummary
    comparison: ComparisonReport | None = None
    calibration: Calibration | None = None

    def document(self) -> dict[str, Any]:
        """Flat, as JSON has it."""
        return {
            "headroom": asdict(self.headroom),
            **(self.comparison.document() if self.comparison else {}),
            **(asdict(self.calibration) if self.calibration else {}),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of `document`."""
        compared = "methods" in document
        return cls(
            headroom=HeadroomSummary.read(document["headroom"]),
            comparison=ComparisonReport.read(document) if compared else None,
            calibration=Calibration.read(document) if compared else None,
        )
