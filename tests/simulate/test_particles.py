"""Particle images: the flow against its closed form, spots and displacements by hand, reversal of time, bad input."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor

from erlangen.errors import ErlangenError, ModelError, NotFiniteError, ShapeError
from erlangen.simulate import Vortices, particle_images

DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flows(batch: int = 3, vortices: int = 2) -> Vortices:
    g = rng(1)
    return Vortices(
        20 * torch.rand(batch, vortices, 2, generator=g, dtype=DOUBLE) - 10,
        80 * torch.randn(batch, vortices, generator=g, dtype=DOUBLE),
        5 + 3 * torch.rand(batch, vortices, generator=g, dtype=DOUBLE),
        torch.randn(batch, 2, generator=g, dtype=DOUBLE),
    )


def test_divergence_is_zero_and_curl_is_that_of_gaussian_cores() -> None:
    flow = flows()
    pos = 30 * torch.rand(3, 40, 2, generator=rng(2), dtype=DOUBLE) - 15

    def total(p: Tensor) -> Tensor:
        return flow(p).sum((0, 1))

    jacobian = torch.autograd.functional.jacobian(total, pos)  # row i: the gradient of component i at every place
    assert isinstance(jacobian, Tensor)
    divergence = jacobian[0, ..., 0] + jacobian[1, ..., 1]
    curl = jacobian[1, ..., 0] - jacobian[0, ..., 1]
    squared = (pos[:, :, None] - flow.centre[:, None]).square().sum(-1)
    core = flow.core[:, None].square()
    expected = (flow.circulation[:, None] / (math.pi * core) * torch.exp(-squared / core)).sum(-1)
    torch.testing.assert_close(divergence, torch.zeros_like(divergence), rtol=0, atol=1e-12)
    torch.testing.assert_close(curl, expected, rtol=0, atol=1e-12)


def test_velocity_is_smooth_at_the_middle_of_a_vortex() -> None:
    flow = Vortices(torch.zeros(1, 1, 2), torch.ones(1, 1), torch.full((1, 1), 2.0), torch.zeros(1, 2))
    pos = torch.tensor([[[0.0, 0.0], [1e-30, 0.0], [1e-5, 0.0]]], dtype=DOUBLE, requires_grad=True)
    speed = flow(pos)
    torch.testing.assert_close(speed[0, 2, 1].item(), 1e-5 / (8 * math.pi), rtol=1e-9, atol=0)
    speed.sum().backward()
    assert pos.grad is not None
    assert bool(torch.isfinite(pos.grad).all())


def test_displacement_against_scipy() -> None:
    flow = flows(1)
    pairs = particle_images(flow, 1, 9, steps=8, generator=rng(), dtype=DOUBLE)

    def rate(_t: float, state: np.ndarray) -> list[float]:
        return flow(torch.from_numpy(state)[None, None])[0, 0].tolist()

    for row, column in ((0, 0), (4, 4), (2, 7)):
        start = [column - 4.0, 4.0 - row]
        ends = [
            torch.tensor(integrate.solve_ivp(rate, (0, t), start, rtol=1e-12, atol=1e-12).y[:, -1]) for t in (-0.5, 0.5)
        ]
        torch.testing.assert_close(pairs.field[0, :, row, column], ends[1] - ends[0], rtol=0, atol=1e-6)


def test_rigid_rotation_moves_along_chords() -> None:
    """Half a turn angle back and half on: the chord ``2 sin(w / 2)`` times the position, turned by a quarter."""
    spin = 0.3
    pairs = particle_images(
        lambda p: spin * torch.stack([-p[..., 1], p[..., 0]], -1), 1, 11, generator=rng(), dtype=DOUBLE
    )
    axis = torch.arange(11, dtype=DOUBLE) - 5
    x, y = axis.expand(11, -1), -axis[:, None].expand(-1, 11)
    expected = 2 * math.sin(spin / 2) * torch.stack([-y, x])
    torch.testing.assert_close(pairs.field[0], expected, rtol=0, atol=1e-7)


def test_uniform_drift_moves_the_picture() -> None:
    """Three pixels to the right and two up, away from the border."""
    drift = torch.tensor([3.0, 2.0], dtype=DOUBLE)
    pairs = particle_images(lambda p: drift.expand_as(p), 2, 32, margin=12, generator=rng(), dtype=DOUBLE)
    first, second = pairs.frames.unbind(1)
    torch.testing.assert_close(second[:, :-2, 3:], first[:, 2:, :-3], rtol=0, atol=1e-12)
    torch.testing.assert_close(pairs.field, drift[None, :, None, None].expand(2, 2, 32, 32), rtol=0, atol=1e-12)
    assert float((second - first).abs().max()) > 0.1


def test_spots_are_gaussians_of_the_stated_diameter() -> None:
    """One particle that rests: brightness exp(-2) of its middle at half the diameter, whatever the direction."""
    pairs = particle_images(
        torch.zeros_like,
        1,
        64,
        density=1 / 64**2,
        margin=0,
        diameter=(8.0, 8.0),
        brightness=(0.7, 0.7),
        generator=rng(5),
        dtype=DOUBLE,
    )
    image = pairs.frames[0, 0]
    assert torch.equal(pairs.frames[0, 0], pairs.frames[0, 1])
    axis = torch.arange(64, dtype=DOUBLE) - 31.5
    total = image.sum()
    middle = (image * axis).sum() / total, (image * -axis[:, None]).sum() / total
    expected = 0.7 * torch.exp(-((axis - middle[0]) ** 2 + (-axis[:, None] - middle[1]) ** 2) / (2 * 2.0**2))
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-9)


def test_defaults_by_campbells_theorem() -> None:
    """Spots at density r add up to the mean r E[b 2 pi w^2] and the variance r E[b^2 pi w^2], w a quarter of the diameter."""
    image = particle_images(torch.zeros_like, 40, 128, generator=rng(), dtype=DOUBLE).frames[:, 0]
    squared_width = (3**3 - 2**3) / 3 / 16  # diameters are uniform in 2 to 3
    assert float(image.mean()) == pytest.approx(0.05 * 0.75 * 2 * math.pi * squared_width, rel=0.03)
    squared_brightness = (1 - 0.5**3) / 3 / 0.5  # uniform in 0.5 to 1
    assert float(image.var()) == pytest.approx(0.05 * squared_brightness * math.pi * squared_width, rel=0.04)
    edge = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]])
    assert float(edge.mean()) == pytest.approx(float(image.mean()), rel=0.06)  # particles lie beyond the border too


def test_time_runs_backwards_exactly() -> None:
    flow = flows()
    there = particle_images(flow, 3, 24, generator=rng(), dtype=DOUBLE)
    back = particle_images(lambda p: -flow(p), 3, 24, generator=rng(), dtype=DOUBLE)
    assert torch.equal(back.frames, there.frames.flip(1))
    assert torch.equal(back.field, -there.field)


def test_seeds_dtype_and_noise() -> None:
    flow = flows()
    a, b, c = (particle_images(flow, 3, 16, generator=rng(seed)) for seed in (0, 0, 1))
    assert a.frames.dtype == a.field.dtype == torch.float32
    assert torch.equal(a.frames, b.frames)
    assert not torch.equal(a.frames, c.frames)
    noisy = particle_images(flow, 3, 16, noise=0.1, generator=rng(0))
    rest = noisy.frames - a.frames
    assert float(rest.std()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(noisy.field, a.field)
    dense = particle_images(flow, 3, 16, density=0.2, generator=rng(0))
    assert float(dense.frames.mean() / a.frames.mean()) == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 0}, ErlangenError, "count"),
        ({"size": -1}, ErlangenError, "size"),
        ({"steps": 0}, ErlangenError, "steps"),
        ({"density": 0.0}, ErlangenError, "density"),
        ({"diameter": (3.0, 2.0)}, ErlangenError, r"diameter = \(3, 2\)"),
        ({"brightness": (0.0, 2.0)}, ErlangenError, "brightness"),
        ({"noise": -0.1}, ErlangenError, "noise"),
        ({"margin": math.nan}, ErlangenError, "margin"),
        ({"velocity": lambda p: p[..., 0]}, ModelError, "velocity gave the shape"),
        ({"velocity": lambda p: p / 0}, NotFiniteError, "velocity gave NaN"),
    ],
)
def test_bad_input(options: dict[str, Any], error: type[ErlangenError], message: str) -> None:
    arguments: dict[str, Any] = {"velocity": torch.zeros_like, "count": 2, "size": 8, **options}
    with pytest.raises(error, match=message):
        particle_images(**arguments)


def test_bad_vortices() -> None:
    with pytest.raises(ShapeError, match=r"give \[B, V, 2\]"):
        Vortices(torch.zeros(2, 1, 2), torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(1, 2))
    with pytest.raises(ErlangenError, match="core radii are positive"):
        Vortices(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 2))
