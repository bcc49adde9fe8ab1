"""Networks with other products, e3nn's product, and powers by the explicit coupling tensor."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from erlangen.irreps import Irreps, gaunt_tensor
from erlangen.irreps.wigner import MAX_WIGNER_DEGREE
from erlangen.nn import IrrepsNetwork, ManyBodyProduct, TensorProduct

Road = Literal["dense", "grid", "fourier"]

NETWORKS: dict[str, tuple[Literal["cg", "gaunt"], str, Road]] = {
    "CG, all paths": ("cg", "eo", "grid"),
    "CG, even paths": ("cg", "y", "grid"),
    "Gaunt, grid": ("gaunt", "y", "grid"),
    "Gaunt, fourier": ("gaunt", "y", "fourier"),
}
"""Rule, parities of features, and road. Features of natural parity reach even l1 + l2 + l3 alone."""
NUM_BASIS = 8


def gaunt_product(L: int, road: Road = "grid") -> TensorProduct:
    """The product of two signals of degrees 0..L, untruncated up to degree 12."""
    irreps, out = Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(min(2 * L, MAX_WIGNER_DEGREE))
    return TensorProduct(irreps, irreps, out, rule="gaunt", form="elementwise", road=road)


def e3nn_product(irreps: Irreps) -> Callable[[Tensor, Tensor], Tensor] | None:
    """e3nn's full product, if e3nn is there."""
    if importlib.util.find_spec("e3nn") is None:
        return None
    o3: Any = importlib.import_module("e3nn.o3")
    return o3.FullTensorProduct(str(irreps), str(irreps))


def network(name: str, lmax: int, parameters: int | None = None) -> IrrepsNetwork:
    """Two layers with 16 channels; the width of the radial network makes up for missing weights of products.

    Args:
        name: one of `NETWORKS`.
        lmax: degree of features and of the harmonics of edges.
        parameters: wanted number of parameters; by default that of a radial network of 32 neurons.
    """
    rule, parities, road = NETWORKS[name]
    hidden = "+".join(f"16x{l}{p}" for l in range(lmax + 1) for p in parities)

    def build(radial_neurons: int) -> IrrepsNetwork:
        net = IrrepsNetwork(
            "0e+1o",
            hidden,
            "1o",
            lmax_edge=lmax,
            layers=2,
            rule=rule,
            cutoff=8.0,
            num_basis=NUM_BASIS,
            radial_neurons=radial_neurons,
            num_neighbors=4.0,
        )
        if rule == "gaunt":
            for layer in net.layers:
                layer.product = _on_road(cast("TensorProduct", layer.product), road)
        # Products of three random weights have heavy tails; all networks learn faster when they start near zero.
        with torch.no_grad():
            for part in ("down", "skip"):
                for parameter in getattr(net.layers[-1], part).parameters():
                    parameter *= 0.1
        return net

    if parameters is None:
        return build(32)
    # The network that is counted leaves the random numbers to the one that is kept.
    with torch.random.fork_rng(devices=[]):
        first = build(32)
    per_neuron = sum(NUM_BASIS + cast("TensorProduct", layer.product).weight_numel for layer in first.layers)
    return build(32 + round((parameters - count_parameters(first)) / per_neuron))


def _on_road(product: TensorProduct, road: Road) -> TensorProduct:
    x, y, out = product.irreps_x, product.irreps_y, product.irreps_out
    return TensorProduct(x, y, out, rule="gaunt", form="depthwise", weights="given", road=road)


def count_parameters(net: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


class ExplicitPowers(nn.Module):
    """Sums of powers 1 to 3 of signals by explicit coupling tensors, one contraction with x per power, as in MACE.

    Args:
        product: the layer whose output is to be computed, of order 3 and with one table of weights.
    """

    def __init__(self, product: ManyBodyProduct) -> None:
        super().__init__()
        L, out = product.irreps_in.lmax, product.irreps_out
        self.channels, self.irreps_in, self.irreps_out = product.channels, product.irreps_in, out
        pair = gaunt_tensor(L, L, 2 * L)
        self.U2 = nn.Buffer(gaunt_tensor(L, L, out.lmax).movedim(-1, 0).contiguous())
        self.U3 = nn.Buffer(torch.einsum("abe,eck->kabc", pair, gaunt_tensor(2 * L, L, out.lmax)).contiguous())
        degrees = torch.tensor([block.ir.l for block in out for _ in range(block.ir.dim)])
        table = product.weight.detach()[0].unflatten(0, (3, len(out)))  # every power reaches every block
        self.weight = nn.Parameter(table[:, degrees].mT.contiguous())  # [power, C, K_out]

    def forward(self, x: Tensor) -> Tensor:
        """As `ManyBodyProduct`."""
        parts = x.split([block.dim for block in self.irreps_in], -1)
        x = torch.cat([part.unflatten(-1, (self.channels, -1)) for part in parts], -1)
        w1, w2, w3 = self.weight  # [C, K_out]
        cubic = (x @ self.U3.flatten(0, 2).mT).unflatten(-1, self.U3.shape[:3])  # [N, C, K_out, K, K]
        square = (x @ self.U2.flatten(0, 1).mT).unflatten(-1, self.U2.shape[:2])  # [N, C, K_out, K]
        total = w3[..., None] * (cubic @ x[..., None, :, None])[..., 0] + w2[..., None] * square
        out = (total @ x[..., None])[..., 0] + w1 * x[..., : w1.shape[-1]]
        return torch.cat([part.flatten(1) for part in out.split([block.ir.dim for block in self.irreps_out], -1)], -1)
