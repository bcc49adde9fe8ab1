"""The n-body task is frames 31 and 41 of `charged`."""

import torch

from erlangen.simulate import charged, charges_ahead, drifted


def test_frames_of_the_field() -> None:
    x, later = charges_ahead(3, 5, charges=True)
    data = charged(3, steps=5000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(x["pos"], data.pos[:, 31])
    assert torch.equal(x["vel"], data.vel[:, 31])
    assert torch.equal(later, data.pos[:, 41])
    assert torch.equal(x["edge_attr"][..., 0], data.charges @ data.charges.mT - torch.eye(5))
    assert set(charges_ahead(3, 5)[0]) == {"pos", "vel", "edge_attr"}


def test_particles_that_keep_their_velocity() -> None:
    x, later = charges_ahead(50, 5)
    free = {"pos": x["pos"], "vel": 0 * x["vel"]}
    assert torch.equal(drifted(free), x["pos"])
    assert torch.equal(drifted(x, speed=0.0), x["pos"])
    # Of no, one and two units of time one is the best guess.
    errors = [float((drifted(x, speed) - later).square().mean()) for speed in (0.0, 1.0, 2.0)]
    assert min(errors) == errors[1]
