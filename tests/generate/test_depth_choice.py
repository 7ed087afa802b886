"""What a user asks of a model's depth."""

from typing import Any

import pytest

from pipeline.generate.depth_choice import DepthRefused, chosen_depth, full_depth
from pipeline.recurrent.request import DepthRequest

PLAIN = {"model_type": "stepwell_recurrent", "num_iterations": 3, "max_iterations": 8}
CALIBRATED: dict[str, Any] = PLAIN | {
    "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
    "depth_calibration": [{"budget": 0.5, "log_price": 0.3}],
    "efforts": {"low": 0.5},
}


def test_nobody_asks() -> None:
    assert chosen_depth(PLAIN, {}, {}) == (DepthRequest(depth=3), "the model's own 3 iterations")
    request, words = chosen_depth(CALIBRATED, {"effort": "low"}, {})
    assert (request.rule, words) == ("policy", "effort low, the model's default")  # pyright: ignore
    assert chosen_depth({"model_type": "llama"}, {}, {}) == (None, "")


@pytest.mark.parametrize(
    ("config", "choice", "said"),
    [
        (
            {"model_type": "llama"},
            {"effort": "low"},
            r"a dense model \(llama\) .* leave effort out",
        ),
        (PLAIN, {"depth": 9}, "depth 9: the model runs 1 to 8 iterations"),
        (PLAIN, {"budget": 0.5}, "no depth_policy"),
        (CALIBRATED, {"effort": "most"}, "'most' is none of low"),
    ],
)
def test_what_cannot_be_asked(config: dict[str, Any], choice: dict[str, Any], said: str) -> None:
    with pytest.raises(DepthRefused, match=said):
        chosen_depth(config, {}, choice)


def test_the_full_depth_is_the_policys_or_deeper() -> None:
    assert full_depth(PLAIN, DepthRequest(depth=2)) == 3
    assert full_depth(CALIBRATED, DepthRequest(depth=2)) == 6
    assert full_depth(CALIBRATED, DepthRequest(depth=8)) == 8
