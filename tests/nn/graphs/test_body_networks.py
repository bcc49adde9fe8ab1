"""Networks of bodies keep the contract of layers, with the symmetry that they have."""

import torch

from erlangen.groups import E, Translation
from erlangen.nn import EGNN, CentredMover, MessagePassing, SpeedEGNN
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

BODIES = {"pos": "points", "vel": "vectors", "edge_attr": "invariant"}


def systems() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"pos": (4, 5, 3), "vel": (4, 5, 3), "edge_attr": (4, 5, 5, 1)}
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def test_speeds_and_relative_positions_move_with_space() -> None:
    net = EGNN(1, 1, 8, layers=2, edge_features=1, velocity=True, generator=torch.Generator().manual_seed(0))
    check_layer(SpeedEGNN(net), systems(), Symmetry(E(3), input=BODIES, output="points"))


def test_distances_are_one_more_feature() -> None:
    net = MessagePassing(6, 3, 8, layers=2, edge_features=2, generator=torch.Generator().manual_seed(0))
    x = systems()
    squared = torch.cdist(x["pos"].double(), x["pos"].double()).square().float()[..., None]
    found, expected = CentredMover(net, distances=True)(x), x | {"edge_attr": torch.cat([x["edge_attr"], squared], -1)}
    torch.testing.assert_close(found, CentredMover(net)(expected))


def test_centred_coordinates_move_with_shifts() -> None:
    net = MessagePassing(6, 3, 8, layers=2, edge_features=1, generator=torch.Generator().manual_seed(0))
    check_layer(CentredMover(net), systems(), Symmetry(Translation(3), input=BODIES, output="points"))
