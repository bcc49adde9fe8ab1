"""Solids: balanced, normalised, reproducible, upright."""

import torch

from erlangen.simulate import solids


def test_solids_are_balanced_upright_and_normalised() -> None:
    x, y = solids(200, 64, noise=0.0, generator=torch.Generator().manual_seed(0))
    assert torch.bincount(y).tolist() == [20] * 10
    torch.testing.assert_close(x.square().sum(-1).mean(1), torch.ones(200), rtol=1e-5, atol=1e-5)
    assert float(x.mean(1).abs().max()) < 1e-5
    again = solids(200, 64, noise=0.0, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(x, again)
    cylinders = x[y == 1]  # turned about z and bent a little: heights stay the longest extent
    assert float((cylinders[..., 2].std(1) / cylinders[..., 0].std(1)).min()) > 1
