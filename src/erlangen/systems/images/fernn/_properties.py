"""What holds exactly: the theorem, what follows from it, and a network that it does not hold for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from erlangen.actions import Image, Sequence
from erlangen.groups import SO, Cyclic, Flow, Shifts
from erlangen.measure import equivariance_error, relative_change
from erlangen.nn import DriftRecurrence2d, SpinRecurrence2d, velocity_grid
from erlangen.survey import Part, Run, bound, exact, largest
from erlangen.symmetry import Symmetry
from erlangen.systems.images.fernn.method import Predictor, torus_decoder, turning_decoder

SIZE = (12, 20)
FRAMES = 12
CLOSED = torch.cartesian_prod(torch.arange(0, 12, 4), torch.arange(0, 20, 5))
"""Velocities that are closed under addition on the torus of 12 x 20."""

_FLOW = Flow(Shifts(*SIZE), [[1, 0], [0, 1]])
_MOVE = Sequence(Image(), -4).on(_FLOW)


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def clip(run: Run[Any], dtype: torch.dtype = torch.float64, size: tuple[int, int] = SIZE) -> Tensor:
    """Twelve frames of noise ``[1, 12, 1, H, W]``."""
    return noise(1, FRAMES, 1, *size, seed=run.seed, dtype=dtype)


def recurrence(
    velocities: Tensor | list[list[int]], run: Run[Any], dtype: torch.dtype = torch.float64
) -> DriftRecurrence2d:
    """Four channels with random weights and bias, on the torus of 12 x 20."""
    layer = DriftRecurrence2d(1, 4, SIZE, velocities=velocities, generator=run.generator())
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.copy_(0.3 * noise(4, seed=run.seed + 1))
    return layer.to(dtype)


def spinning(n: int, run: Run[Any]) -> SpinRecurrence2d:
    """Two regular fields of C_n, velocities of all multiples of 360 / n degrees."""
    return SpinRecurrence2d(Cyclic(n), 1, 2, generator=run.generator()).double()


def worst(layer: DriftRecurrence2d | SpinRecurrence2d, x: Tensor, velocities: Tensor | None) -> float:
    """The largest relative error of the declared symmetry."""
    with torch.no_grad():
        return float(equivariance_error(layer, layer.symmetry, x, elements=velocities, reduce="max"))


# --- drift -----------------------------------------------------------------------------------------------------------
@exact(tol=1e-12, float32=1e-5)
def theorem(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative error of the states of clips that drift at 25 velocities, in the slices whose origin is in V."""
    return worst(recurrence(velocity_grid(2), run, dtype), clip(run, dtype), velocity_grid(2))


@exact(tol=1e-12)
def theorem_closed(run: Run[Any]) -> float:
    """Relative error of the states of clips that drift, all slices, with velocities that are closed under addition."""
    return worst(recurrence(CLOSED, run), clip(run), CLOSED)


@exact(tol=1e-12)
def static_shift(run: Run[Any]) -> float:
    """Relative error of the states when all frames are shifted alike."""
    layer = recurrence(velocity_grid(2), run)
    shifted = Symmetry(Shifts(*SIZE), input=Sequence(Image(), -4), output=Sequence(Image(), -5))
    with torch.no_grad():
        error = equivariance_error(layer, shifted, clip(run), elements=torch.tensor([[1, 0], [5, 13]]), reduce="max")
    return float(error)


@exact(tol=0)
def one_velocity(run: Run[Any]) -> float:
    """Numbers in which the states for V = {0} differ from those of a plain convolutional recurrent network."""
    still, x = recurrence([[0, 0]], run), clip(run)
    with torch.no_grad():
        return float((still(x)[:, :, 0] != plain_recurrence(still, x)).sum())


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


@torch.no_grad()
def readout_error(layer: DriftRecurrence2d, x: Tensor) -> float:
    """Of the law that predictions move on with a moving clip, five frames ahead."""
    torch.manual_seed(0)
    model = Predictor(layer, torus_decoder(4, 6), 5).double()
    ahead = torch.zeros(len(x), FRAMES, 1, *SIZE, dtype=x.dtype)
    answer = torch.cat([ahead, model(x)], 1)
    largest = 0.0
    for nu in layer.velocities:
        expected = _MOVE.act(nu, answer)[:, FRAMES:]
        largest = max(largest, relative_change(model(_MOVE.act(nu, x)), expected, over="batch"))
    return largest


@exact(tol=1e-12)
def read_out(run: Run[Any]) -> float:
    """Relative error of predictions moving on with a drifting clip, five frames ahead, velocities closed under addition."""
    return readout_error(recurrence(CLOSED, run), clip(run))


@exact(tol=0)
def group_law(run: Run[Any]) -> float:
    """Pixels in which drifting by (1, -2) for 8, then 3 frames differs from drifting for 11."""
    nu, image = torch.tensor([1, -2]), Image().on(_FLOW.group)
    frame = clip(run)[:, 0]
    twice = image.act(_FLOW.at(nu, 3), image.act(_FLOW.at(nu, 8), frame))
    return float((twice != image.act(_FLOW.at(nu, 11), frame)).sum())


@exact(tol=1e-12)
@torch.no_grad()
def mirror(run: Run[Any]) -> float:
    """Relative error of mirrored columns and kernels carrying slice (r, c) of the state to slice (r, -c)."""
    layer, x = recurrence(velocity_grid(2), run), clip(run)
    other = recurrence(layer.velocities, run)
    for weight in (other.input_weight, other.state_weight):
        weight.copy_(weight.flip(-1))
    mirrored = layer.velocities * torch.tensor([1, -1])
    source = (mirrored[:, None] == layer.velocities).all(-1).int().argmax(-1)
    return relative_change(other(x.flip(-1)), layer(x).flip(-1)[:, :, source], over="batch")


@exact(tol=1e-6)
def gradient(run: Run[Any]) -> float:
    """Relative error of the derivative along the gradient, through four frames, against central differences."""
    layer, x = recurrence(velocity_grid(1), run), noise(1, 4, 1, *SIZE, seed=run.seed).requires_grad_()
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x)
    step = 1e-6 * slope / slope.norm()
    with torch.no_grad():
        rise = (layer(x + step).square().sum() - layer(x - step).square().sum()) / 2e-6
    return abs(float(rise / slope.norm()) - 1)


@bound(at_least=1e-2)
@torch.no_grad()
def counterexample(run: Run[Any]) -> float:
    """Relative error of the theorem for a network with the velocity 0 alone, on a drift by (1, 1)."""
    layer, x, nu = recurrence([[0, 0]], run), clip(run), torch.tensor([1, 1])
    return relative_change(layer(_MOVE.act(nu, x))[:, :, 0], _MOVE.act(nu, layer(x)[:, :, 0]), over="batch")


# --- rotations -------------------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def spin(run: Run[Any]) -> float:
    """Relative error of the states, all slices, of clips that spin by quarter turns per frame, regular fields of C_4."""
    return worst(spinning(4, run), clip(run, size=(9, 9)), None)


@exact(tol=1e-12)
def spin_eighths(run: Run[Any]) -> float:
    """Relative error of the states of clips that spin by quarter turns, where slices turn by multiples of 45 degrees."""
    return worst(spinning(8, run), clip(run, size=(9, 9)), None)


@exact(tol=1e-12)
@torch.no_grad()
def spin_read_out(run: Run[Any]) -> float:
    """Relative error of predictions turning on with a clip that spins by quarter turns per frame."""
    layer, x = spinning(4, run), clip(run, size=(9, 9))
    torch.manual_seed(0)
    model = Predictor(layer, turning_decoder(layer.group, 2, 2), 1).double()
    spun = layer.symmetry.input
    answer = torch.cat([torch.zeros_like(x), model(x)], 1)
    return largest(
        relative_change(model(spun.act(k, x)), spun.act(k, answer)[:, FRAMES:], over="batch") for k in torch.arange(4)
    )


def round_trip(side: int) -> float:
    """Relative error of a Gaussian spot off the middle, turned by 45 degrees and back, over a grid of `side` pixels."""
    t = (torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5
    spot = torch.exp(-((t[:, None] - 0.1).square() + (t - 0.15).square()) / (2 * 0.08**2))
    turn, image = SO(2).exp(torch.tensor([torch.pi / 4], dtype=torch.float64)), Image().on(SO(2))
    return relative_change(image.inverse_act(turn, image.act(turn, spot)), spot, over="batch")


@bound(at_least=2)
def round_trip_refines(run: Run[Any]) -> float:
    """Error of turning a spot by 45 degrees and back on a grid, over that on one twice as fine; the smaller of two ratios."""
    coarse, middle, fine = (round_trip(side) for side in (16, 32, 64))
    return min(coarse / middle, middle / fine)


PROPERTIES = (
    theorem,
    theorem_closed,
    static_shift,
    one_velocity,
    read_out,
    group_law,
    mirror,
    gradient,
    spin,
    spin_eighths,
    spin_read_out,
    counterexample,
    round_trip_refines,
)


def details_part(run: Run[Any]) -> Part:
    """What is not exact, by how much: predictions where the set of velocities ends, and turns by 45 degrees on pixels."""
    errors = {"read-out, truncated": readout_error(recurrence(velocity_grid(1), run), clip(run))}
    errors |= {f"there and back by 45 degrees, {side} pixels": round_trip(side) for side in (16, 32, 64)}
    return Part([{"part": "details", "what": what, "error": error} for what, error in errors.items()])
