"""The n-body task is frames 31 and 41 of `charged`."""

import torch

from erlangen.simulate import charged, charges_ahead


def test_frames_of_the_field() -> None:
    x, later = charges_ahead(3, 5, charges=True)
    data = charged(3, steps=5000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(x["pos"], data.pos[:, 31])
    assert torch.equal(x["vel"], data.vel[:, 31])
    assert torch.equal(later, data.pos[:, 41])
    assert torch.equal(x["edge_attr"][..., 0], data.charges @ data.charges.mT - torch.eye(5))
    assert set(charges_ahead(3, 5)[0]) == {"pos", "vel", "edge_attr"}
