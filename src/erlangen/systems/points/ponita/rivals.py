"""Models of charged particles: how PONITA reads them, and what it is compared with."""

from __future__ import annotations

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

BODIES = {"pos": "points", "vel": "vectors", "charge": "invariant", "edge_attr": "invariant"}
"""How motions act on particles with velocities and charges, and on the products of two charges."""

MOTIONS = Symmetry(E(3), input=BODIES, output="points")

OURS, IRREPS, STRAIGHT = "PONITA, 12 directions", "irreps network", "particles keep their velocity"


class Widths(NamedTuple):
    """Channels of networks of particles that have about equally many parameters."""

    ours: int = 32
    graph: int = 32
    egnn: int = 28
    irreps: int = 32


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
    """`IrrepsNetwork` on charges and velocities. It has no features of edges; charges of nodes say as much."""

    def __init__(self, net: IrrepsNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Positions ``[B, N, 3]``."""
        # The library's vectors of degree 1 are (x, y, z) as they stand.
        return x["pos"] + self.net(torch.cat([x["charge"], x["vel"]], -1), x["pos"])


def oriented(
    width: int = 32,
    layers: int = 3,
    basis: int = 24,
    *,
    layer_scale: float = 1e-6,
    calibrated_on: dict[str, Tensor] | None = None,
    generator: Generator | None = None,
) -> Oriented:
    """`Ponita` on 12 directions, calibrated on these systems."""
    net = Ponita(
        0,
        1,
        vectors_out=1,
        directions=12,
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


def particle_rivals(widths: Widths, layers: int, basis: int, batch: int) -> dict[str, Rival]:
    """All models of particles; PONITA is calibrated on the first systems of the training, as many as a batch has."""
    turned = augment(Symmetry(O(3), input=BODIES, output="points"))

    def calibrate(model: Oriented, split: Split) -> None:
        first: Any = split.train[0]
        model.net.calibrate_(model.inputs({key: value[:batch] for key, value in first.items()}))

    def plain() -> CentredMover:
        return CentredMover(MessagePassing(6, 3, widths.graph, layers=layers, edge_features=1))

    def framed() -> FrameGNN:
        net = MessagePassing(6, 3, 3 * round(widths.graph / 3), layers=layers, edge_features=2)
        return FrameGNN(net, on_degenerate="allow")

    def egnn() -> SpeedEGNN:
        return SpeedEGNN(EGNN(1, 1, widths.egnn, layers=layers, edge_features=1, velocity=True))

    def steered() -> Steered:
        width = widths.irreps
        hidden = f"{3 * width // 4}x0e+{width // 2}x1o+{width // 4}x1e"
        net = IrrepsNetwork("1x0e+1x1o", hidden, "1x1o", lmax_edge=1, layers=layers, cutoff=15.0, num_neighbors=4.0)
        return Steered(net)

    return {
        OURS: Rival(partial(oriented, widths.ours, layers, basis), turned, prepare=calibrate),
        "EGNN": Rival(egnn),
        IRREPS: Rival(steered),
        "FA-GNN": Rival(framed),
        "GNN, augmented": Rival(plain, turned),
        STRAIGHT: Rival(lambda: drifted, trains=False),
    }
