"""What must hold of audits along orbits whatever the model, measured with models made up for the purpose."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from erlangen.actions import Boxes, Image
from erlangen.groups import SO, Dihedral, Shifts, Translation
from erlangen.irreps import wigner_D
from erlangen.measure import METRICS, Metric, Model, audit
from erlangen.measure.evaluate import consensus_of, on_orbit
from erlangen.symmetry import Symmetry
from erlangen.systems.images._nero_common import Row, rng, scores_of
from erlangen.systems.images._nero_flow import GROUP, SYMMETRY, divergence_and_curl

DOUBLE = torch.float64


def property_rows(seed: int) -> list[Row]:
    """One row for each measured property."""
    right, wrong = orbit_law(seed)
    values = {
        "orbit law, scores that differ": right,
        "orbit law with hg, scores that differ": wrong,
        "flow action, pairs whose product fails": representation_exceptions(seed),
        "flow action, change of divergence and curl": derivative_error(seed),
        "planted harmonic": harmonic_error(),
        **consensus_errors(seed),
        "boxes that come back changed": box_exceptions(),
        "consensus of cut boxes": cut_box_error(window=True),
        "the same with all views averaged": cut_box_error(window=False),
        "all shifts of a shift-invariant network": shift_error(seed),
        "twelve turns by 30 degrees": resampling_floor(seed),
        **grid_errors(),
    }
    return [{"part": "properties", "model": name, "value": value} for name, value in values.items()]


def orbit_law(seed: int) -> tuple[int, int]:
    """Scores of hx that differ from ``N_x(gh)``, for all g and h of D4, bit by bit; and from ``N_x(hg)``, the classic bug."""
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


def representation_exceptions(seed: int) -> int:
    """Of the 256 pairs of elements of D4 x reversal, those where acting twice is not acting with the product, bit by bit."""
    g = GROUP.elements()
    frames = torch.rand(2, 8, 8, generator=rng(seed))
    field = torch.randn(2, 7, 7, generator=rng(seed))
    product = GROUP.compose(g[:, None], g)
    same = torch.ones(len(g), len(g), dtype=torch.bool)
    for action, x in ((SYMMETRY.input, frames), (SYMMETRY.output, field)):
        twice = action.act(g[:, None], action.act(g, x.expand(len(g), *x.shape))[None])
        same &= (twice == action.act(product, x[None, None])).flatten(2).all(-1)
    return int((~same).sum())


def derivative_error(seed: int) -> float:
    """Divergence and curl of moved fields: scalars that move with the picture, the curl with the sign of the mirror.

    Reversal of time negates both.
    """
    field = torch.randn(2, 12, 12, generator=rng(seed), dtype=DOUBLE)
    g = GROUP.elements()
    plane, time = GROUP.split(g)
    mirror = torch.linalg.det(GROUP.factors[0].linear(plane, dtype=DOUBLE))
    reverse = torch.where(time[:, 0] == 0, 1.0, -1.0)
    found = divergence_and_curl(SYMMETRY.output.act(g, field.expand(len(g), -1, -1, -1)))
    move = Image().on(GROUP.factors[0])
    worst = 0.0
    for moved, scalar, sign in zip(found, divergence_and_curl(field), (reverse, reverse * mirror), strict=True):
        expected = sign[:, None, None] * move.act(plane, scalar.expand(len(g), -1, -1))
        worst = max(worst, float((moved - expected).abs().max()))
    return worst


def harmonic_error(k: int = 3, amplitude: float = 0.25) -> float:
    """A model that is off by ``a cos(k t)``: largest error of the amplitudes that an audit over 72 angles finds."""
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


def consensus_errors(seed: int) -> dict[str, float]:
    """The consensus over D4 of a convolution that is not equivariant: moves with x, agrees with itself, obeys Jensen."""
    group = Dihedral(4)
    symmetry = Symmetry(group, input="image", output="image")
    g = group.elements()[:, None]
    torch.manual_seed(seed)
    model = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double().eval()
    x, target = torch.randn(2, 4, 1, 8, 8, generator=rng(seed), dtype=DOUBLE)

    def consensus(images: Tensor) -> Tensor:
        return consensus_of(symmetry, [(g, on_orbit(Model(model), symmetry, g, images[None]))], vote=False)

    here = consensus(x)
    moved = max(
        float((consensus(symmetry.input.act(h, x)) - symmetry.output.act(h, here)).abs().max()) for h in g[:, 0]
    )
    again = consensus_of(symmetry, [(g, symmetry.output.act(g, here[None]))], vote=False)
    losses = scores_of(audit(model, symmetry, x, target, metric="mse", progress=False)).mean(0)
    excess = METRICS["mse"](here, target) - losses
    return {
        "consensus of hx minus h of the consensus": moved,
        "consensus of an equivariant model minus its answer": float((again - here).abs().max()),
        "loss of the consensus above the mean loss": max(0.0, float(excess.max())),
    }


def _shifts() -> Tensor:
    pixels = torch.cartesian_prod(torch.arange(-14, 15, 2), torch.arange(-14, 15, 2))
    return Translation(2).exp(pixels.double())[:, None]


def box_exceptions() -> int:
    """Boxes on half pixels that are not bit-identical after a shift and back, or after an element of D4 and back."""
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


def shift_error(seed: int) -> float:
    """Worst error over all 784 shifts of a network of circular convolutions and a mean, float32."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(4, 10, 3, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    x = torch.rand(2, 1, 28, 28, generator=rng(seed))
    symmetry = Symmetry(Shifts(28, 28), input="image", output="invariant")
    return audit(nn.Sequential(*layers).eval(), symmetry, x, progress=False).worst_error


def resampling_floor(seed: int) -> float:
    """Relative change of smooth pictures after twelve turns by 30 degrees, inside of a disk: the floor of every audit."""
    axis = torch.arange(33, dtype=DOUBLE) - 16
    wave = torch.randn(2, 33, 33, generator=rng(seed), dtype=DOUBLE)
    blur = torch.exp(-(axis**2) / (2 * 1.5**2))[13:20]
    wave = torch.nn.functional.conv2d(wave[:, None], (blur[:, None] * blur)[None, None], padding=3)
    action = Image().on(SO(2))
    turn = SO(2).exp(torch.tensor([math.pi / 6], dtype=DOUBLE))
    moved = wave
    for _ in range(12):
        moved = action.act(turn, moved)
    disk = axis**2 + axis[:, None] ** 2 < 14**2
    return float((moved - wave)[..., disk].norm() / wave[..., disk].norm())


def grid_errors() -> dict[str, float]:
    """How well the mean over grids of rotations integrates the entries of D^l, l = 1 to 4, whose integral is zero."""

    def worst(count: int) -> float:
        R = SO(3).grid(count, dtype=DOUBLE)
        return max(float(wigner_D(l, R).mean(0).abs().max()) for l in range(1, 5))

    return {"mean of D^l over 576 rotations": worst(576), "mean of D^l over 4608 rotations": worst(4608)}
