"""What was compared, in a few sentences for a console. Pure."""

from collections.abc import Iterator

from pipeline.depth.compare.depth_report import GainAt, PromptsReport
from pipeline.depth.compare.gains import FIXED
from pipeline.depth.compare.methods import LABELS


def headline(report: PromptsReport) -> Iterator[str]:
    """By stated mean depth: the gain over mixed fixed depths and over the nearest rival; then what
    is saved."""
    for depth, gains in report.fronts.gain_at.items():
        rivals = [name for name in gains if name != FIXED]
        sentence = (
            f"at the FLOPs of mean depth {depth}: {_points(gains[FIXED])} over mixed fixed depths"
        )
        if rivals:
            nearest = min(rivals, key=lambda name: gains[name]["gain"])
            sentence += f", {_points(gains[nearest])} over {LABELS[nearest]}, the nearest rival"
        yield sentence
    saved, span = report.fronts.flops_saved, report.fronts.flops_saved_ci
    if saved is None or span is None:
        yield "no FLOPs saved within a point of the best fixed accuracy"
        return
    most = (
        ""
        if report.max_saving is None
        else f"; of a full-depth answer {report.max_saving:.0%} at most"
    )
    yield (
        f"{saved:.0%} of FLOPs saved ({span[0]:.0%} to {span[1]:.0%}) within a point of the best "
        f"fixed accuracy{most}"
    )


def _points(gain: GainAt) -> str:
    """A gain with its interval, in hundredths of accuracy."""
    low, high = 100 * gain["ci_low"], 100 * gain["ci_high"]
    return f"{100 * gain['gain']:+.1f} points ({low:+.1f} to {high:+.1f})"
