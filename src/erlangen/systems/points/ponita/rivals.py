"""Models of charged particles: how PONITA reads them, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from erlangen.enforce import FrameGNN
from erlangen.groups import E, O
from erlangen.nn import EGNN, CentredMover, IrrepsNetwork, MessagePassing, SpeedEGNN
from erlangen.simulate import drifted
from erlangen.soft import augment
from erlangen.survey import Rival, Split
from erlangen.symmetry import Symmetry
from erlangen.systems.points.ponita.method import Ponita

BODIES = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}
"""How motions act on particles with velocities, and on the products of two charges."""

MOTIONS = Symmetry(E(3), input=BODIES, output="points")

OURS, IRREPS, STRAIGHT = "PONITA, 12 directions", "irreps network", "particles keep their velocity"
WHOLE = "whole group, 12 rotations"


class Widths(NamedTuple):
    """Channels of networks of particles that have about equally many parameters."""

    ours: int = 32
    graph: int = 30
    egnn: int = 28
    irreps: int = 28


class Oriented(nn.Module):
    """`Ponita` on particles: their velocities are vectors, products of charges condition the kernels."""

    def __init__(self, net: Ponita) -> None:
        super().__init__()
        self.net = net

    def inputs(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads."""
        return {"pos": x["pos"], "vec": x["vel"][..., None, :], "edge_attr": x["edge_attr"]}

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        return x["pos"] + self.net(self.inputs(x))["vec"][..., 0, :]


class Steered(nn.Module):
    """`IrrepsNetwork` on velocities and speeds, with the products of charges as features of edges."""

    def __init__(self, net: IrrepsNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        # The library's vectors of degree 1 are (x, y, z) as they stand.
        features = torch.cat([x["vel"].norm(dim=-1, keepdim=True), x["vel"]], -1)
        return x["pos"] + self.net(features, x["pos"], edge_attr=x["edge_attr"])


def oriented(
    width: int = 32,
    layers: int = 3,
    basis: int = 24,
    *,
    directions: int = 12,
    layer_scale: float = 1e-6,
    calibrated_on: dict[str, Tensor] | None = None,
    generator: Generator | None = None,
) -> Oriented:
    """`Ponita` on a grid of directions, calibrated on these systems."""
    net = Ponita(
        0,
        1,
        vectors_out=1,
        directions=directions,
        width=width,
        layers=layers,
        basis=basis,
        widening=2,
        edge_features=1,
        layer_scale=layer_scale,
        generator=generator,
    )
    model = Oriented(net)
    if calibrated_on is not None:
        net.calibrate_(model.inputs(calibrated_on))
    return model


SHARES = {
    1: (1.0, "{a}x0e+{b}x1o+{c}x1e"),
    2: (0.66, "{a}x0e+{b}x1o+{c}x1e+{c}x2e"),
    3: (0.47, "{a}x0e+{b}x1o+{c}x1e+{c}x2e+{c}x3o"),
}
"""By degree: how much of the width keeps the number of parameters about equal, and the features between layers."""


def steered(width: int, layers: int, degree: int) -> Steered:
    """A tensor-product network of particles whose features and harmonics go up to a degree."""
    share, layout = SHARES[degree]
    a, b, c = (max(1, round(share * width * part)) for part in (0.75, 0.5, 0.25))
    net = IrrepsNetwork(
        "1x0e+1x1o", layout.format(a=a, b=b, c=c), "1x1o", lmax_edge=degree, layers=layers, cutoff=15.0,
        num_neighbors=4.0, edge_features=1,
    )  # fmt: skip
    return Steered(net)


def particle_rivals(
    widths: Widths, layers: int, basis: int, batch: int, whole: Callable[[], Oriented] | None = None
) -> dict[str, Rival]:
    """All models of particles; networks on orientations are calibrated on the first systems of the training, a batch of them.

    `whole` makes one on the whole group.
    """
    turned = augment(Symmetry(O(3), input=BODIES, output="points"))

    def calibrate(model: Oriented, split: Split) -> None:
        first: Any = split.train[0]
        model.net.calibrate_(model.inputs({key: value[:batch] for key, value in first.items()}))

    def net() -> MessagePassing:
        return MessagePassing(6, 3, widths.graph, layers=layers, edge_features=2)

    def egnn() -> SpeedEGNN:
        return SpeedEGNN(EGNN(1, 1, widths.egnn, layers=layers, edge_features=1, velocity=True))

    rivals = {OURS: Rival(partial(oriented, widths.ours, layers, basis), turned, prepare=calibrate)}
    if whole is not None:
        rivals[WHOLE] = Rival(whole, turned, prepare=calibrate)
    return rivals | {
        "EGNN": Rival(egnn),
        IRREPS: Rival(lambda: steered(widths.irreps, layers, 1)),
        "FA-GNN": Rival(lambda: FrameGNN(net(), on_degenerate="allow")),
        "GNN, augmented": Rival(lambda: CentredMover(net(), distances=True), turned),
        STRAIGHT: Rival(lambda: drifted, trains=False),
    }
