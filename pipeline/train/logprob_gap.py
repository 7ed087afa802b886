"""How far engine and trainer may be apart on what was sampled. Pure.

Both compute the log-probability of every sampled token, with the same weights and at the same
depths. Where they differ by more than arithmetic explains, the optimizer would follow a gradient of
another policy than the one that was sampled.
"""

from dataclasses import dataclass

from pipeline.errors import RunFailed


class LogprobGapError(RunFailed):
    """Engine and trainer do not compute the same model."""


@dataclass(frozen=True, kw_only=True)
class GapLimit:
    """The largest differences in nats that arithmetic explains."""

    largest: float  # of any sampled token
    mean: float  # over a step's tokens


GAP_LIMITS = {
    "float32": GapLimit(largest=0.05, mean=0.005),
    "bfloat16": GapLimit(largest=10.0, mean=0.1),
}
"""By the engines' dtype. Measured on 5,000 tokens at mixed depths (`tests/bench/gap.py`): 5e-5 at
most in float32, where kernels that round to TF32 would add some 1e-3; 2.3 at most and 0.016 on
average in bfloat16, where logits near 20 are rounded to an eighth. At other depths than sampled it
was 14 at most, 0.5 on average."""


def check_gap(*, step: int, largest: float, mean: float, dtype: str) -> None:
    """Refuse to learn from tokens that this model did not sample.

    Raises LogprobGapError where a gap is over its limit.
    """
    limit = GAP_LIMITS[dtype]
    if largest <= limit.largest and mean <= limit.mean:
        return
    raise LogprobGapError(
        f"step {step}: engine and trainer are {largest:.3g} nats apart on a sampled token, "
        f"{mean:.3g} on average (limits in {dtype}: {limit.largest:g} and {limit.mean:g}): the "
        "tokens did not run at these depths or with these weights, or the engine computes "
        "otherwise; try hardware.engine: native for a recurrent model, or model.dtype: float32, "
        "and do not change files of a run while it is going on"
    )
