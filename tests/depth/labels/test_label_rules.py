"""Labels from loss improvement."""

import torch

from pipeline.depth.labels.label_rules import best_labels, step_labels


def test_step_labels_look_one_iteration_ahead() -> None:
    losses = torch.tensor([[2.0], [2.0], [0.0], [0.5]])
    labels = step_labels(losses)[:, 0]
    assert labels[0] < 0.5 < labels[1]
    assert labels[2] < 0.5  # it got worse


def test_best_labels_see_a_gain_behind_a_flat_step() -> None:
    losses = torch.tensor([[2.0], [2.0], [0.0], [0.0]])
    assert best_labels(losses, price=0.1)[:, 0].tolist() == [1, 1, 0]
    assert best_labels(losses, price=1.5)[:, 0].tolist() == [0, 1, 0]


def test_best_labels_of_many_tokens() -> None:
    losses = torch.rand(5, 7, 3)
    assert best_labels(losses, price=0.01).shape == (4, 7, 3)
    assert (best_labels(torch.ones(5, 2), price=0.01) == 0).all()
