"""What must hold of audits along orbits whatever the model, measured with models made up for the purpose."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.actions import Boxes, Image
from erlangen.groups import SO, Dihedral, Shifts, Translation
from erlangen.irreps import wigner_D
from erlangen.measure import METRICS, Metric, Model, audit
from erlangen.measure.evaluate import consensus_of, on_orbit
from erlangen.survey import Run, bound, exact, largest
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero._clouds import TURN, clouds, disk, framed
from erlangen.systems.images.nero._common import rng, scores_of
from erlangen.systems.images.nero._flow import (
    EPE,
    GROUP,
    SYMMETRY,
    FlowCNN,
    averaged_over_elements,
    correlate,
    divergence_and_curl,
    pairs,
)

DOUBLE = torch.float64


@functools.cache
def scores_that_differ(seed: int) -> tuple[int, int]:
    """Of hx from ``N_x(gh)``, for all g and h of D4, bit by bit; and from ``N_x(hg)``, the classic bug."""
    group = Dihedral(4)
    symmetry = Symmetry(group, input="image", output="invariant")
    x, y = torch.rand(3, 1, 9, 9, generator=rng(seed)), torch.arange(3)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(81, 3)).eval()
    metric = Metric("logit", lambda prediction, target: prediction.gather(1, target[:, None])[:, 0])

    def curve(images: Tensor) -> Tensor:
        return scores_of(audit(model, symmetry, images, y, metric=metric, chunk=1, progress=False))

    base, g = curve(x), group.elements()
    right = wrong = 0
    for h in g:
        moved = curve(symmetry.input.act(h, x))
        right += int((moved != base[group.compose(g, h)]).sum())
        wrong += int((moved != base[group.compose(h, g)]).sum())
    return right, wrong


@exact(tol=0)
def orbit_law(run: Run[Any]) -> float:
    """Scores of hx that differ from the curve of x at gh, for all g and h of D4, bit by bit."""
    return scores_that_differ(run.seed)[0]


@bound(at_least=1)
def orbit_law_order(run: Run[Any]) -> float:
    """Scores of hx that differ from the curve of x at hg, which is wrong in a group that does not commute."""
    return scores_that_differ(run.seed)[1]


# --- flow ------------------------------------------------------------------------------------------------------------
@exact(tol=0)
def flow_representation(run: Run[Any]) -> float:
    """Of 256 pairs of elements of D4 x reversal of time, those whose product acts otherwise on frames or field, bit by bit."""
    seed = run.seed
    g = GROUP.elements()
    frames = torch.rand(2, 8, 8, generator=rng(seed))
    field = torch.randn(2, 7, 7, generator=rng(seed))
    product = GROUP.compose(g[:, None], g)
    same = torch.ones(len(g), len(g), dtype=torch.bool)
    for action, x in ((SYMMETRY.input, frames), (SYMMETRY.output, field)):
        twice = action.act(g[:, None], action.act(g, x.expand(len(g), *x.shape))[None])
        same &= (twice == action.act(product, x[None, None])).flatten(2).all(-1)
    return int((~same).sum())


@exact(tol=1e-12)
def flow_derivatives(run: Run[Any]) -> float:
    """Divergence and curl of moved fields against the moved ones with their signs, largest difference, float64."""
    # Both are scalars that move with the picture, the curl with the sign of the mirror; reversal of time negates both.
    field = torch.randn(2, 12, 12, generator=run.generator(), dtype=DOUBLE)
    g = GROUP.elements()
    plane, time = GROUP.split(g)
    mirror = torch.linalg.det(GROUP.factors[0].linear(plane, dtype=DOUBLE))
    reverse = torch.where(time[:, 0] == 0, 1.0, -1.0)
    found = divergence_and_curl(SYMMETRY.output.act(g, field.expand(len(g), -1, -1, -1)))
    move = Image().on(GROUP.factors[0])
    worst = 0.0
    for moved, scalar, sign in zip(found, divergence_and_curl(field), (reverse, reverse * mirror), strict=True):
        expected = sign[:, None, None] * move.act(plane, scalar.expand(len(g), -1, -1))
        worst = largest(worst, float((moved - expected).abs().max()))
    return worst


@exact(tol=1e-3)
def flow_correlation_flat(run: Run[Any]) -> float:
    """Cross-correlation: largest change of a pair's end-point error over its sixteen elements, pixels, 20 pairs."""
    scores = scores_of(audit(correlate, SYMMETRY, *pairs(20, run.seed), metric=EPE, progress=False))
    return float((scores.amax(0) - scores.amin(0)).max())


# --- curves and consensus --------------------------------------------------------------------------------------------
@exact(tol=1e-12)
def flow_symmetrized_exact(run: Run[Any]) -> float:
    """Network averaged over the sixteen elements: worst equivariance error, random parameters, float64, every element visited."""
    torch.manual_seed(run.seed)
    model = averaged_over_elements(FlowCNN()).double().eval()
    x, y = (one.double() for one in pairs(2, run.seed))
    return audit(model, SYMMETRY, x, y, metric=EPE, progress=False).worst_error


@exact(tol=1e-10)
def clouds_frames_flat(run: Run[Any]) -> float:
    """PointNet in frames: worst relative change of its answers over a disk of rotations, random parameters, float64."""
    torch.manual_seed(run.seed)
    x, y = clouds(12, run.seed)
    model = framed().double().eval()
    return audit(model, TURN, x.double(), y, elements=disk(DOUBLE), progress=False).worst_error


@exact(tol=1e-3)
def planted_harmonic(run: Run[Any]) -> float:
    """Amplitudes that an audit finds of a model that is off by 0.25 cos(3 t), largest error over all frequencies."""
    k, amplitude = 3, 0.25
    x = torch.tensor([[1.0, 0.0]], dtype=DOUBLE)

    def model(v: Tensor) -> Tensor:
        return v.norm(dim=1) + amplitude * torch.cos(k * torch.atan2(v[:, 1], v[:, 0]))

    metric = Metric("value", lambda prediction, _target: prediction)
    symmetry = Symmetry(SO(2), input="vectors", output="invariant")
    scores = scores_of(
        audit(model, symmetry, x, torch.zeros(1, dtype=DOUBLE), metric=metric, elements=72, progress=False)
    )
    found = torch.fft.rfft(scores[:, 0]).abs() / 36
    expected = torch.zeros_like(found)
    expected[0], expected[k] = 2.0, amplitude
    return float((found - expected).abs().max())


D4 = Symmetry(Dihedral(4), input="image", output="image")
ELEMENTS = Dihedral(4).elements()[:, None]


def convolution(run: Run[Any]) -> tuple[nn.Module, Tensor, Tensor]:
    """A convolution that is not equivariant under D4, pictures, and what it should make of them."""
    torch.manual_seed(run.seed)
    model = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double().eval()
    x, target = torch.randn(2, 4, 1, 8, 8, generator=run.generator(), dtype=DOUBLE)
    return model, x, target


def consensus(model: nn.Module, images: Tensor) -> Tensor:
    """Of a model's answers to all elements of D4."""
    return consensus_of(D4, [(ELEMENTS, on_orbit(Model(model), D4, ELEMENTS, images[None]))], vote=False)


@exact(tol=1e-12)
def consensus_equivariant(run: Run[Any]) -> float:
    """Consensus of hx minus h of the consensus of x, over D4, float64."""
    model, x, _ = convolution(run)
    here = consensus(model, x)
    moved = [consensus(model, D4.input.act(h, x)) - D4.output.act(h, here) for h in ELEMENTS[:, 0]]
    return largest(float(one.detach().abs().max()) for one in moved)


@exact(tol=1e-12)
def consensus_idempotent(run: Run[Any]) -> float:
    """Consensus of an equivariant model minus its own answer, float64."""
    model, x, _ = convolution(run)
    here = consensus(model, x)
    again = consensus_of(D4, [(ELEMENTS, D4.output.act(ELEMENTS, here[None]))], vote=False)
    return float((again - here).detach().abs().max())


@exact(tol=1e-12)
def consensus_jensen(run: Run[Any]) -> float:
    """How far the squared error of the consensus lies above the mean of the squared errors."""
    model, x, target = convolution(run)
    losses = scores_of(audit(model, D4, x, target, metric="mse", progress=False)).mean(0)
    excess = METRICS["mse"](consensus(model, x), target) - losses
    return largest(0.0, float(excess.max()))


# --- boxes -----------------------------------------------------------------------------------------------------------
def _shifts() -> Tensor:
    pixels = torch.cartesian_prod(torch.arange(-14, 15, 2), torch.arange(-14, 15, 2))
    return Translation(2).exp(pixels.double())[:, None]


@exact(tol=0)
def boxes_come_back(run: Run[Any]) -> float:
    """Boxes that are not bit-identical after a shift, or an element of D4, and back."""
    x = (torch.randn(20, 4, generator=rng(0), dtype=DOUBLE) * 16).round() / 2
    failed = 0
    for group, g in ((Translation(2), _shifts()), (Dihedral(4), Dihedral(4).elements()[:, None])):
        action = Boxes().on(group)
        failed += int((action.inverse_act(g, action.act(g, x[None])) != x).sum())
    return failed


def cut_box_error(*, window: bool) -> float:
    """Error of the consensus of a detector that sees exactly what is on a canvas of 20 x 20, in pixels.

    With `window` the action knows where boxes are cut; without, all views are averaged.
    """
    sees = Boxes((20, 20))
    symmetry = Symmetry(Translation(2), input=Boxes(), output=sees if window else Boxes())
    x = torch.tensor([[2.0, -1.0, 5.0, 3.0], [0.0, 0.0, 6.0, 6.0]], dtype=DOUBLE)
    g = _shifts()
    answers = sees.clip(symmetry.input.act(g, x[None]))
    return float((consensus_of(symmetry, [(g, answers)], vote=False) - x).abs().max())


@exact(tol=1e-12)
def cut_boxes_left_out(run: Run[Any]) -> float:
    """Error of the consensus, in pixels, of a detector that sees exactly what is on the canvas."""
    return cut_box_error(window=True)


@bound(at_least=0.1)
def cut_boxes_matter(run: Run[Any]) -> float:
    """Error of the consensus, in pixels, of a detector that sees what is on the canvas, if cut boxes are averaged like others."""
    return cut_box_error(window=False)


# --- elements --------------------------------------------------------------------------------------------------------
@exact(tol=1e-6)
def shift_invariant(run: Run[Any]) -> float:
    """Worst error over all 784 shifts of a network of circular convolutions and a mean, float32."""
    torch.manual_seed(run.seed)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(4, 10, 3, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    x = torch.rand(2, 1, 28, 28, generator=run.generator())
    symmetry = Symmetry(Shifts(28, 28), input="image", output="invariant")
    return audit(nn.Sequential(*layers).eval(), symmetry, x, progress=False).worst_error


@bound(at_least=0.01)
def resampling_floor(run: Run[Any]) -> float:
    """Relative change of smooth pictures that are turned twelve times by 30 degrees: it is not zero, so it is reported."""
    axis = torch.arange(33, dtype=DOUBLE) - 16
    wave = torch.randn(2, 33, 33, generator=run.generator(), dtype=DOUBLE)
    blur = torch.exp(-(axis**2) / (2 * 1.5**2))[13:20]
    wave = torch.nn.functional.conv2d(wave[:, None], (blur[:, None] * blur)[None, None], padding=3)
    action = Image().on(SO(2))
    turn = SO(2).exp(torch.tensor([math.pi / 6], dtype=DOUBLE))
    moved = wave
    for _ in range(12):
        moved = action.act(turn, moved)
    disk = axis**2 + axis[:, None] ** 2 < 14**2
    return float((moved - wave)[..., disk].norm() / wave[..., disk].norm())


def largest_mean(count: int) -> float:
    """Of the entries of D^l, l = 1 to 4, over a grid of so many rotations; the integral is zero."""
    R = SO(3).grid(count, dtype=DOUBLE)
    return largest(float(wigner_D(l, R).mean(0).abs().max()) for l in range(1, 5))


@exact(tol=6e-3)
def rotation_grid(run: Run[Any]) -> float:
    """Mean of the entries of D^l, l = 1 to 4, over 576 rotations with equal weights, largest."""
    return largest_mean(576)


@bound(at_least=4)
def rotation_grid_converges(run: Run[Any]) -> float:
    """Largest mean of the entries of D^l, l = 1 to 4, over 576 rotations, over that for eight times as many."""
    return largest_mean(576) / largest_mean(4608)


PROPERTIES = (
    orbit_law,
    orbit_law_order,
    flow_representation,
    flow_derivatives,
    flow_correlation_flat,
    flow_symmetrized_exact,
    clouds_frames_flat,
    planted_harmonic,
    consensus_equivariant,
    consensus_idempotent,
    consensus_jensen,
    boxes_come_back,
    cut_boxes_left_out,
    cut_boxes_matter,
    shift_invariant,
    resampling_floor,
    rotation_grid,
    rotation_grid_converges,
)
