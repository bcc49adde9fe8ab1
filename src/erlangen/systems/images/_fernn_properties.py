"""What holds exactly: the errors of the theorem, of what follows from it, and of a network that it does not hold for."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Image, Sequence
from erlangen.groups import SO, Cyclic, Flow, Shifts
from erlangen.measure import equivariance_error, relative_change
from erlangen.nn import DriftRecurrence2d, SpinRecurrence2d, velocity_grid
from erlangen.symmetry import Symmetry
from erlangen.systems.images._fernn_models import Predictor, torus_decoder, turning_decoder

SIZE = (12, 20)
FRAMES = 12
CLOSED = torch.cartesian_prod(torch.arange(0, 12, 4), torch.arange(0, 20, 5))
"""Velocities that are closed under addition on the torus of 12 x 20."""

_FLOW = Flow(Shifts(*SIZE), [[1, 0], [0, 1]])
_MOVE = Sequence(Image(), -4).on(_FLOW)


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def recurrence(
    velocities: Tensor | list[list[int]], seed: int, dtype: torch.dtype = torch.float64
) -> DriftRecurrence2d:
    """Four channels with random weights and bias, on the torus of 12 x 20."""
    layer = DriftRecurrence2d(1, 4, SIZE, velocities=velocities, generator=Generator().manual_seed(seed))
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(0.3 * noise(4, seed=seed + 1))
    return layer.to(dtype)


@torch.no_grad()
def property_errors(seed: int) -> dict[str, float]:
    """Relative errors by name, worst over velocities."""
    x = noise(1, FRAMES, 1, *SIZE, seed=seed)
    grid = velocity_grid(2)
    overlap, closed = recurrence(grid, seed), recurrence(CLOSED, seed)
    still = recurrence([[0, 0]], seed)
    single = recurrence(grid, seed, torch.float32)
    return {
        "theorem, float64": _worst(overlap, x, grid),
        "theorem, float32": _worst(single, x.float(), grid),
        "theorem, closed set": _worst(closed, x, CLOSED),
        "static shift": static_error(overlap, x),
        "one velocity": float((still(x)[:, :, 0] != plain_recurrence(still, x)).sum()),
        "read-out": readout_error(closed, x),
        "read-out, truncated": readout_error(recurrence(velocity_grid(1), seed), x),
        "group law": group_law_error(x),
        "mirror": mirror_error(overlap, x),
        "counterexample": drift_error(still, x),
        "gradient": gradient_error(seed),
        **spin_errors(seed),
    }


def _worst(layer: DriftRecurrence2d, x: Tensor, velocities: Tensor) -> float:
    return float(equivariance_error(layer, layer.symmetry, x, elements=velocities, reduce="max"))


def static_error(layer: DriftRecurrence2d, x: Tensor) -> float:
    """Of the equivariance under one and the same shift of all frames."""
    shifted = Symmetry(Shifts(*SIZE), input=Sequence(Image(), -4), output=Sequence(Image(), -5))
    return float(equivariance_error(layer, shifted, x, elements=torch.tensor([[1, 0], [5, 13]]), reduce="max"))


def plain_recurrence(layer: DriftRecurrence2d, x: Tensor) -> Tensor:
    """The states of a convolutional recurrent network, written with torch alone."""
    h = x.new_zeros(())
    states: list[Tensor] = []
    for frame in x.unbind(1):
        drive = F.conv2d(F.pad(frame, (1, 1, 1, 1), mode="circular"), layer.input_weight, layer.bias)
        h = F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), layer.state_weight) + drive if states else drive
        h = h.relu()
        states.append(h)
    return torch.stack(states, 1)


def readout_error(layer: DriftRecurrence2d, x: Tensor) -> float:
    """Of the law that predictions move on with a moving clip, five frames ahead."""
    torch.manual_seed(0)
    model = Predictor(layer, torus_decoder(4, 6), 5).double()
    ahead = torch.zeros(len(x), FRAMES, 1, *SIZE, dtype=x.dtype)
    answer = torch.cat([ahead, model(x)], 1)
    worst = 0.0
    for nu in layer.velocities:
        expected = _MOVE.act(nu, answer)[:, FRAMES:]
        worst = max(worst, relative_change(model(_MOVE.act(nu, x)), expected, over="batch"))
    return worst


def group_law_error(x: Tensor) -> float:
    """Of psi_s psi_t = psi_{s + t} for a drift by (1, -2): the number of pixels that differ."""
    nu, image = torch.tensor([1, -2]), Image().on(_FLOW.group)
    frame = x[:, 0]
    twice = image.act(_FLOW.at(nu, 3), image.act(_FLOW.at(nu, 8), frame))
    return float((twice != image.act(_FLOW.at(nu, 11), frame)).sum())


def mirror_error(layer: DriftRecurrence2d, x: Tensor) -> float:
    """Of the law that mirrored columns and kernels carry slice (r, c) to (r, -c)."""
    other = recurrence(layer.velocities, 0)
    other.load_state_dict(layer.state_dict())
    for weight in (other.input_weight, other.state_weight):
        weight.copy_(weight.flip(-1))
    mirrored = layer.velocities * torch.tensor([1, -1])
    source = (mirrored[:, None] == layer.velocities).all(-1).int().argmax(-1)
    return relative_change(other(x.flip(-1)), layer(x).flip(-1)[:, :, source], over="batch")


def drift_error(layer: DriftRecurrence2d, x: Tensor) -> float:
    """How far states of a network without velocities are from moving along with a drift by (1, 1)."""
    nu = torch.tensor([1, 1])
    return relative_change(layer(_MOVE.act(nu, x))[:, :, 0], _MOVE.act(nu, layer(x)[:, :, 0]), over="batch")


def gradient_error(seed: int) -> float:
    """Of the derivative in the direction of the gradient, against central differences, through four frames."""
    layer, x = recurrence(velocity_grid(1), seed), noise(1, 4, 1, *SIZE, seed=seed)
    with torch.enable_grad():
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
    step = 1e-6 * gradient / gradient.norm()
    rise = (layer(x + step).square().sum() - layer(x - step).square().sum()) / 2e-6
    return abs(float(rise / gradient.norm()) - 1)


# --- rotations -------------------------------------------------------------------------------------------------------
def spin_errors(seed: int) -> dict[str, float]:
    """Of the theorem for rotations, of their read-out, and of turning there and back at several resolutions."""
    x = noise(1, FRAMES, 1, 9, 9, seed=seed)
    quarter = SpinRecurrence2d(Cyclic(4), 1, 2, generator=Generator().manual_seed(seed)).double()
    eighth = SpinRecurrence2d(Cyclic(8), 1, 2, generator=Generator().manual_seed(seed)).double()
    worst = partial(equivariance_error, x=x, elements=None, reduce="max")
    errors = {
        "spin, quarter turns": float(worst(quarter, quarter.symmetry)),
        "spin, eighth turns, moved by quarter turns": float(worst(eighth, eighth.symmetry)),
        "spin, read-out": spin_readout_error(quarter, x),
    }
    return errors | {f"there and back by 45 degrees, {side} pixels": round_trip(side) for side in (16, 32, 64)}


def spin_readout_error(layer: SpinRecurrence2d, x: Tensor) -> float:
    """Of the law that predictions turn on with a turning clip."""
    torch.manual_seed(0)
    model = Predictor(layer, turning_decoder(layer.group, 2, 2), 1).double()
    spun = layer.symmetry.input
    answer = torch.cat([torch.zeros_like(x), model(x)], 1)
    return max(
        relative_change(model(spun.act(k, x)), spun.act(k, answer)[:, FRAMES:], over="batch") for k in torch.arange(4)
    )


def round_trip(side: int) -> float:
    """Relative error of a Gaussian spot off the middle, turned by 45 degrees and back, over a grid of `side` pixels."""
    t = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
    spot = torch.exp(-((t[:, None] - 0.1).square() + (t - 0.15).square()) / (2 * 0.08**2))
    turn, image = SO(2).exp(torch.tensor([torch.pi / 4], dtype=torch.float64)), Image().on(SO(2))
    return relative_change(image.inverse_act(turn, image.act(turn, spot)), spot, over="batch")
