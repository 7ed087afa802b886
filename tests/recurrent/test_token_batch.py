"""Padding, packed sequences and warm starts: what tokens attend to and begin from."""

import pytest
import torch

from tests.recurrent.sequences import (
    LENGTHS,
    MakeModel,
    decoded,
    depths_of,
    left_padded,
)


@torch.no_grad()
def test_right_padding_changes_nothing(make_model: MakeModel) -> None:
    model = make_model()
    tokens, mask = left_padded()
    tokens, mask = tokens.flip(1), mask.flip(1)
    depths = depths_of("token")
    whole = model(tokens, attention_mask=mask, depths=depths).logits
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row : row + 1, :length], depths=depths[row : row + 1, :length]).logits
        torch.testing.assert_close(alone[0], whole[row, :length], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_packed_sequences_do_not_see_each_other(make_model: MakeModel) -> None:
    model = make_model(state_init="normal")
    tokens, _ = left_padded()
    parts = [tokens[:1, :4], tokens[:1, 4:9], tokens[1:2, 6:]]
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    packed = model(torch.cat(parts, dim=1), position_ids=positions).logits
    apart = torch.cat([model(part).logits for part in parts], dim=1)
    torch.testing.assert_close(packed, apart, atol=2e-5, rtol=1e-5)
    warm = make_model(warm_start=True)
    with pytest.raises(ValueError, match="packed sequences"):
        warm(torch.cat(parts, dim=1), position_ids=positions)


@torch.no_grad()
def test_warm_start_goes_on_from_the_last_state(make_model: MakeModel) -> None:
    model, cold = make_model(warm_start=True), make_model()
    tokens, _ = left_padded()
    ones = torch.ones_like(tokens)
    depths = depths_of("token")
    whole = model(tokens, depths=depths).logits
    steps = decoded(model, tokens, ones, depths, chunks=[4, 1, 1, 2, 1])
    torch.testing.assert_close(steps, whole, atol=2e-5, rtol=1e-5)
    without = cold(tokens, depths=depths).logits
    torch.testing.assert_close(whole[:, 0], without[:, 0], atol=2e-5, rtol=1e-5)
    assert (whole[:, 1:] - without[:, 1:]).abs().amax(dim=(0, 2)).min() > 1e-3


@torch.no_grad()
def test_warm_start_takes_nothing_from_padding(make_model: MakeModel) -> None:
    model = make_model(warm_start=True, state_init="normal")
    tokens, mask = left_padded()
    depths = depths_of("token")
    whole = model(tokens, attention_mask=mask, depths=depths).logits
    steps = decoded(model, tokens, mask, depths, chunks=[2, 1, 1, 1, 1, 1, 2])
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row : row + 1, -length:], depths=depths[row : row + 1, -length:])
        torch.testing.assert_close(whole[row, -length:], alone.logits[0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(steps[row, -length:], alone.logits[0], atol=2e-5, rtol=1e-5)
