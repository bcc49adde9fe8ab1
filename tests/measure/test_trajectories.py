"""Metrics of motion forecasting, by hand."""

import pytest
import torch

from erlangen.errors import ShapeError
from erlangen.measure import average_displacement, best_of, final_displacement


def two_agents():
    target = torch.zeros(1, 2, 3, 2)
    prediction = target.clone()
    prediction[0, 0, :, 0] = torch.tensor([1.0, 2.0, 6.0])
    prediction[0, 1, 2] = torch.tensor([3.0, 4.0])
    return prediction, target


def test_displacements_by_hand():
    prediction, target = two_agents()
    torch.testing.assert_close(average_displacement(prediction, target), torch.tensor([(3 + 5 / 3) / 2]))
    torch.testing.assert_close(final_displacement(prediction, target), torch.tensor([5.5]))
    mask = torch.tensor([[True, False]])
    torch.testing.assert_close(average_displacement(prediction, target, mask), torch.tensor([3.0]))
    torch.testing.assert_close(final_displacement(prediction, target, mask), torch.tensor([6.0]))
    assert average_displacement(prediction, target, ~mask | ~mask).shape == (1,)
    assert float(final_displacement(prediction, target, torch.zeros(1, 2, dtype=torch.bool))) == 0


def test_best_of_chooses_for_each_agent():
    prediction, target = two_agents()
    both = torch.stack([prediction, prediction.flip(1)])
    ade, fde = best_of(both, target)
    torch.testing.assert_close(ade, torch.tensor([5 / 3]))
    torch.testing.assert_close(fde, torch.tensor([5.0]))
    single = best_of(prediction[None], target)
    torch.testing.assert_close(single[0], average_displacement(prediction, target))


def test_bad_input():
    with pytest.raises(ShapeError, match="must both be"):
        average_displacement(torch.zeros(2, 3, 2), torch.zeros(2, 4, 2))
    with pytest.raises(ShapeError, match="one axis more"):
        best_of(torch.zeros(2, 3, 2), torch.zeros(2, 3, 2))
    with pytest.raises(ShapeError, match="there are agents"):
        final_displacement(torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), torch.zeros(3, dtype=torch.bool))
