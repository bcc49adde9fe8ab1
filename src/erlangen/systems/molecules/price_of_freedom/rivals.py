"""Networks in which only the rule of the product differs: for pieces of four cubes, and for charged particles."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from erlangen.irreps import Irrep, Irreps
from erlangen.nn import IrrepsNetwork
from erlangen.nn.products.module import Rule
from erlangen.simulate import drifted

# --- tetris ----------------------------------------------------------------------------------------------------------
PIECES = (
    ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)),  # the next one is its mirror image
    ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)),
    ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),  # square
    ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)),  # line
    ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)),  # corner
    ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)),  # L
    ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)),  # T
    ((0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)),  # zigzag
)
NEIGHBOURS = 1.4
"""Cutoff between the distances 1 and sqrt(2), so that cubes see those that they touch."""


TRUE, BOTH = "6x0e+6x1o+6x2e", "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"
TETRIS: dict[str, tuple[Rule, str, str, str]] = {
    "cg": ("cg", "0e", BOTH, "0o+7x0e"),
    "cg, true irreps only": ("cg", "0e", TRUE, "8x0e"),
    "gaunt, true signals": ("gaunt", "0e", TRUE, "8x0e"),
    "gaunt, true and pseudo signals": ("gaunt", "0e+0o", BOTH, "0o+7x0e"),
    "vector": ("vector", "0e", "4x0e+4x1o+4x1e+4x2e+4x2o", "0o+7x0e"),
}
"""Rule and irreps: of the input, which is all ones; between layers; of the output."""
SEPARATES = ("cg", "vector")


class TetrisNetwork(nn.Module):
    """Logits ``[B, 8]`` of pieces ``[B, 4, 3]``; with a pseudoscalar o, those of the mirror images are o e and -o e."""

    def __init__(self, name: str, generator: Generator | None = None) -> None:
        super().__init__()
        rule, *irreps = TETRIS[name]
        self.net = IrrepsNetwork(
            *irreps, layers=3, rule=rule, cutoff=NEIGHBOURS, num_neighbors=1.5, generator=generator
        )

    def forward(self, pos: Tensor) -> Tensor:
        """Sums of the node outputs, read as logits."""
        x = pos.new_ones(*pos.shape[:-1], self.net.irreps_in.dim)
        out = self.net(x, pos).sum(-2)
        if "0o" not in self.net.irreps_out:
            return out
        odd, even = out[:, :1], out[:, 1:]
        return torch.cat([odd * even[:, :1], -odd * even[:, :1], even[:, 1:]], -1)


# --- charged particles -----------------------------------------------------------------------------------------------
N_BODY: dict[Rule, tuple[str, ...]] = {
    "cg": ("0e", "1o", "1e", "2e"),
    "gaunt": ("0e", "1o", "2e"),
    "vector": ("0e", "1o", "1e", "2e"),
}


class Forecast(nn.Module):
    """Positions ``[B, N, 3]`` after one unit of time: those of constant velocity, corrected by the network.

    Attributes:
        curve: validation errors, with the seconds at which they were reached.
    """

    def __init__(self, rule: Rule, channels: int, radial_neurons: int, generator: Generator | None = None) -> None:
        super().__init__()
        hidden = Irreps([(channels, Irrep(ir)) for ir in N_BODY[rule]])
        self.net = IrrepsNetwork(
            "0e+1o",
            hidden,
            "1o",
            layers=3,
            rule=rule,
            cutoff=8.0,
            radial_neurons=radial_neurons,
            num_neighbors=4.0,
            generator=generator,
        )
        self.curve: list[tuple[float, float]] = []

    def forward(self, state: dict[str, Tensor]) -> Tensor:
        """From ``{"pos", "vel", "charges"}``."""
        charges_and_vel = torch.cat([state["charges"], state["vel"]], -1)
        # The factor lets training start close to constant velocity.
        return drifted(state) + 0.1 * self.net(charges_and_vel, state["pos"])
