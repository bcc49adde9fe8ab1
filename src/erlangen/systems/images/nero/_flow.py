"""Particle image velocimetry: a small network and classical correlation on the orbit of D4 x reversal of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen.actions import Custom, Factors, Field, Image, Permuted
from erlangen.enforce import symmetrize
from erlangen.errors import ShapeError
from erlangen.groups import Dihedral, DirectProduct, Symmetric
from erlangen.measure import Metric, audit
from erlangen.simulate import Vortices, particle_images
from erlangen.survey import Part, Rival, Run, Sizes, Split, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.images.nero._common import (
    CURVES,
    agreement,
    apart,
    averaged_after,
    curve_rows,
    rng,
    scores_of,
    spread,
    training,
)

SIZE, WINDOW, STRIDE = 64, 16, 8
REACH = 6
"""Largest displacement, in pixels along each axis, that the correlation looks for."""


# --- the symmetry ----------------------------------------------------------------------------------------------------
def _reverse(g: Tensor, field: Tensor) -> Tensor:
    """Negate fields where the permutation of the two frames ``[..., 2]`` swaps them."""
    sign = torch.where(g[..., 0] == 0, 1.0, -1.0).to(field)
    return sign.reshape(*sign.shape, *([1] * (field.ndim - sign.ndim))) * field


GROUP = DirectProduct(Dihedral(4), Symmetric(2))
SYMMETRY = Symmetry(
    GROUP,
    input=Factors((Image(), Permuted(axis=-3))),
    output=Factors((Field(), Custom(_reverse, "reversal"))),
)
"""Pairs of frames ``[..., 2, H, W]`` and displacements ``[..., 2, h, w]``: the plane moves both, and a swap of the frames, time
running backwards, negates the displacement. All sixteen elements are exact."""


def element_names() -> list[str]:
    """What the sixteen elements do, in the order of an audit."""
    names: list[str] = []
    for plane, time in zip(*GROUP.split(GROUP.elements()), strict=True):
        turn, mirror = int(plane) % 4, int(plane) >= 4
        names.append(f"{90 * turn}°" + (" mirrored" if mirror else "") + (" reversed" if int(time[0]) else ""))
    return names


def end_point_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean length of the difference of two fields ``[N, 2, h, w]``, in pixels, ``[N]``."""
    return (prediction - target).double().norm(dim=1).mean((-2, -1))


EPE = Metric("end-point error", end_point_error, higher_is_better=False)


# --- data ------------------------------------------------------------------------------------------------------------
def channel_flows(count: int, seed: int) -> Vortices:
    """Flows as in a channel: a drift to the right and two vortices, all counterclockwise. Far from symmetric."""
    g = rng(seed)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=g, dtype=torch.float64)

    drift = torch.cat([between(1.5, 3.5, 1), between(-0.5, 0.5, 1)], -1)
    return Vortices(between(-24, 24, 2, 2), between(40, 140, 2), between(6, 12, 2), drift)


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frames ``[B, 2, 64, 64]`` and mean displacements of overlapping windows ``[B, 2, 7, 7]``."""
    made = particle_images(channel_flows(count, seed), count, SIZE, noise=0.02, steps=1, generator=rng(seed + 1))
    return made.frames, F.avg_pool2d(made.field, WINDOW, STRIDE)


# --- estimators ------------------------------------------------------------------------------------------------------
class FlowCNN(nn.Module):
    """A small network from pairs of frames ``[B, 2, 64, 64]`` to displacements ``[B, 2, 7, 7]`` in pixels."""

    def __init__(self, widths: tuple[int, int, int] = (12, 24, 32)) -> None:
        super().__init__()
        a, b, c = widths
        self.layers = nn.Sequential(
            nn.Conv2d(2, a, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(a, b, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(b, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c, 2, 1),
            nn.AvgPool2d(WINDOW // 4, STRIDE // 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Displacements of pairs of frames."""
        return self.layers(x)


def correlate(frames: Tensor) -> Tensor:
    """Displacements by the classical method: correlate windows of the two frames, and find the peak between pixels.

    Windows of 16 x 16 that overlap by half; correlation by Fourier transform without wrapping, divided by the overlap; the
    peak refined along each axis by a parabola through the logarithms of three values (Willert and Gharib 1991; Raffel et al.
    2018, section 5.4). All of it treats left and right, up and down, and the two frames alike.

    Args:
        frames: ``[B, 2, H, W]``, sizes multiples of 8, at least 16.

    Returns:
        Displacements ``[B, 2, H / 8 - 1, W / 8 - 1]`` in pixels, (x to the right, y up).

    Raises:
        ShapeError: frames of another shape.
    """
    if (
        frames.ndim != 4
        or frames.shape[1] != 2
        or min(frames.shape[2:]) < WINDOW
        or any(n % STRIDE for n in frames.shape[2:])
    ):
        raise ShapeError(
            f"frames has shape {tuple(frames.shape)}; give [B, 2, H, W] with H and W multiples of {STRIDE}, at least {WINDOW}"
        )
    windows = frames.unfold(2, WINDOW, STRIDE).unfold(3, WINDOW, STRIDE)  # [B, 2, h, w, 16, 16]
    windows = windows - windows.mean((-2, -1), keepdim=True)
    first, second = torch.fft.rfft2(windows, s=(2 * WINDOW, 2 * WINDOW)).unbind(1)
    field = torch.fft.irfft2(first.conj() * second, s=(2 * WINDOW, 2 * WINDOW))
    lags = torch.arange(-REACH - 1, REACH + 2, device=frames.device)
    field = field[..., lags[:, None] % (2 * WINDOW), lags % (2 * WINDOW)]  # [B, h, w, rows, columns] of lags
    overlap = (1 - lags.abs() / WINDOW).to(field)
    field = field / (overlap[:, None] * overlap)
    inner = field[..., 1:-1, 1:-1]
    best = inner.flatten(-2).argmax(-1)
    row, column = best // inner.shape[-1] + 1, best % inner.shape[-1] + 1
    flat = field.flatten(-2)
    floor = 1e-3 * flat.amax(-1).clamp_min(torch.finfo(field.dtype).tiny)

    def value(rows: Tensor, columns: Tensor) -> Tensor:
        found = flat.gather(-1, (rows * len(lags) + columns)[..., None])[..., 0]
        return torch.maximum(found, floor).log()

    def refined(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
        bend = before + after - 2 * here
        return torch.where(bend < 0, (before - after) / (2 * bend.clamp_max(-1e-12)), 0.0)

    here = value(row, column)
    right = column + refined(value(row, column - 1), here, value(row, column + 1))
    down = row + refined(value(row - 1, column), here, value(row + 1, column))
    return torch.stack([right - (REACH + 1), (REACH + 1) - down], 1)


# --- measurement -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Flows:
    """What flows cost: pairs of frames, and passes over them."""

    sizes: Sizes
    epochs: int


def averaged_over_elements(model: nn.Module) -> nn.Module:
    """The mean of an estimator's answers over the sixteen elements: exactly equivariant, at sixteen times the cost."""
    return symmetrize(model, SYMMETRY, how="orbit")


RIVALS = {
    "CNN": Rival(FlowCNN),
    "correlation": Rival(lambda: correlate, trains=False),
    "CNN, symmetrized": Rival(FlowCNN, fit=averaged_after(averaged_over_elements)),
}


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean end-point error."""
    return end_point_error(prediction, target).float().mean()


def draw(sizes: Sizes, seed: int) -> Split:
    """Pairs of a seed."""
    return Split(*(pairs(count, 1000 * (100 + seed) + 100 * (k + 1)) for k, count in enumerate(sizes)))


@torch.no_grad()
def validate(model: Any, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """Error of the pairs as they are."""
    return {"upright": float(end_point_error(model(x), y).mean())}


def likely_elements() -> Tensor:
    """Which of the sixteen elements leave a drift to the right and the sense of vortices what they are, or reverse both twice."""
    field = torch.zeros(2, 3, 3, dtype=torch.float64)
    field[0] = 1.0
    g = GROUP.elements()
    drift = SYMMETRY.output.act(g, field[None].expand(len(g), -1, -1, -1))
    return (drift[:, 0].mean((-2, -1)) > 0.5).cpu()


@torch.no_grad()
def measure(model: Any, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, Any]:
    """An audit of an estimator over the sixteen elements."""
    report = audit(model, SYMMETRY, x, y, metric=EPE, progress=False)
    scores = scores_of(report)
    mean = scores.mean(1)
    row: dict[str, Any] = {
        "upright": float(mean[0]),
        "orbit mean": float(mean.mean()),
        "worst element": float(mean.max()),
        "spread over orbit": spread(mean),
        "largest change of a sample": float((scores.amax(0) - scores.amin(0)).max()),
        "equivariance error": report.worst_error,
        "audit": report.certificate,
        "tested on": scores.shape[1],
    }
    row["elements like the data"] = float(mean[likely_elements()].mean())
    row["other elements"] = float(mean[~likely_elements()].mean())
    if isinstance(
        model, FlowCNN
    ):  # of an equivariant model the consensus is its own answer, and knows nothing of its error
        row["vote, end-point error"] = float(end_point_error(averaged_over_elements(model)(x), y).mean())
        row |= agreement(report)
    return row | {CURVES: {"element": mean.tolist()}}


def flow_part(run: Run[Any], budget: Flows) -> Part:
    """A row for each estimator, then one for each of the sixteen elements."""
    how, sizes = training(loss, budget.epochs), run.sizes(budget.sizes)
    table, curves = apart(
        compare("flow", RIVALS, partial(draw, sizes), how, measure, best="upright", run=run, validate=validate)
    )
    rows = curve_rows("flow, element", element_names(), {name: found["element"] for name, found in curves.items()})
    claims = [
        table.ratio(
            "flow-network-varies",
            "Flow network: end-point error under elements that turn the drift away over that under those that keep it.",
            table["CNN", "other elements"],
            table["CNN", "elements like the data"],
            above=1,
            published="orientations that the training data lack stand out",
        ),
        table.beats("flow-symmetrized-level", "CNN, symmetrized", "CNN", "worst element"),
        table.beats("flow-correlation-level", "correlation", "CNN", "worst element"),
    ]
    return Part([*table.rows, *rows], claims, table.runs)


def divergence_and_curl(field: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of fields ``[..., 2, H, W]`` (x right, y up) inside of the border, each ``[..., H - 2, W - 2]``."""

    def across(f: Tensor) -> Tensor:
        return (f[..., 1:-1, 2:] - f[..., 1:-1, :-2]) / 2

    def up(f: Tensor) -> Tensor:
        return (f[..., :-2, 1:-1] - f[..., 2:, 1:-1]) / 2

    u, v = field.unbind(-3)
    return across(u) + up(v), across(v) - up(u)
