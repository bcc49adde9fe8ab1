"""PointNet on the clouds that APEN reads: what it is told, and in which units."""

from __future__ import annotations

from torch import Tensor, nn

from erlangen.nn import PointNet


class Blind(nn.Module):
    """A network that reads the points of ``{"pos", "labels"}`` and is not told the parts."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """What the network answers to the points."""
        return self.net(x["pos"])


class Scaled(nn.Module):
    """Points in units in which the whole cloud is about one in size, which PointNet learns from best."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Enlarged points."""
        return self.factor * x


def point_net(classes: int, size: float) -> nn.Module:
    """Logits ``[B, n, classes]`` of clouds of this size, with the parameters of APEN up to a tenth."""
    return nn.Sequential(Scaled(1 / size), PointNet(3, classes, 69, per_point=True))
