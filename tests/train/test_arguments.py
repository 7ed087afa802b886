"""transformers' arguments of a stage."""

import pytest

from pipeline.errors import WrongInput
from pipeline.train import arguments
from pipeline.train.arguments import optimizer_arguments


def test_the_library_of_8_bit_averages_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "find_spec", lambda name: None)
    assert optimizer_arguments("adamw") == {}
    with pytest.raises(WrongInput, match=r"pip install 'stepwell\[gpu\]'"):
        optimizer_arguments("adamw_8bit")
    monkeypatch.setattr(arguments, "find_spec", lambda name: object())
    assert optimizer_arguments("adamw_8bit") == {"optim": "adamw_bnb_8bit"}
