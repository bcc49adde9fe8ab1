"""Networks with other products, e3nn's product, the paper's own Fourier series, powers by the explicit coupling tensor."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from erlangen.irreps import Irreps, gaunt_tensor, spherical_harmonics
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


class SeriesProduct(nn.Module):
    """The Gaunt product of degrees 0..L as the paper computes it: to a Fourier series, by FFT through the product, and back.

    A harmonic of order m has only the frequencies m and -m in the azimuth, so both changes of basis are one small matrix for
    each order, and cost L^3 in all. `erlangen.nn.TensorProduct` with ``road="fourier"`` goes from coefficients to values on
    the torus by one dense matrix: more operations, fewer calls.

    Args:
        L: degree of both inputs.
        out: largest degree of the output, at most 2 L.
        dtype: of the constants, and of what is multiplied.
    """

    def __init__(self, L: int, out: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.size = n = 4 * L + 1
        # Coefficients of each harmonic; frequencies 0..L of the azimuth are half of them, the others their conjugates.
        circle = 2 * np.pi * np.arange(2 * L + 1) / (2 * L + 1)
        series = np.fft.rfft2(_continued(L, circle, circle), axes=(0, 1), norm="forward")[np.arange(-L, L + 1)]
        # Integrals of each harmonic with each wave over the sphere, which is half of the torus.
        nodes, weights = np.polynomial.legendre.leggauss(8 * L + 32)
        theta, phi = (nodes + 1) * np.pi / 2, 2 * np.pi * np.arange(n) / n
        half = np.fft.ifft(_continued(out, theta, phi), axis=1)[:, : out + 1] * 2 * np.pi
        waves = np.exp(1j * np.outer(np.arange(-2 * L, 2 * L + 1), theta)) * (weights * np.sin(theta) * np.pi / 2)
        dual = np.einsum("ut,tvk->uvk", waves, half)
        dual[:, 1:] *= 2  # for the other half
        self.into_index, into = _by_order(series, L)
        self.back_index, back = _by_order(
            dual.conj(), out
        )  # Re(p z) is the scalar product of p with the conjugate of z
        self.into, self.back = nn.Buffer(into.to(dtype)), nn.Buffer(back.mT.contiguous().to(dtype))
        order = torch.tensor([l * l + l + m for l in range(out + 1) for m in range(-l, l + 1)])
        flat = self.back_index.flatten()
        self.place = torch.stack([(flat == a).nonzero()[0, 0] for a in order])
        self.waves = torch.arange(-2 * L, 2 * L + 1) % n

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """From ``[B, (L + 1)^2]`` twice to ``[B, (out + 1)^2]``."""
        product = torch.fft.rfft2(self._values(x) * self._values(y), norm="forward")
        kept = product[:, self.waves, : len(self.back)]  # [B, u, v]
        parts = torch.view_as_real(kept.permute(2, 0, 1).contiguous()).flatten(2)
        return (parts @ self.back).transpose(0, 1).flatten(1)[:, self.place]

    def _values(self, x: Tensor) -> Tensor:
        """Values on the torus ``[B, N, N]``, by the inverse FFT of the series."""
        parts = (x[:, self.into_index].transpose(0, 1) @ self.into).unflatten(-1, (-1, 2))
        series = torch.view_as_complex(parts.contiguous()).permute(1, 2, 0)  # [B, u, v]
        padded = series.new_zeros(len(x), self.size, self.size // 2 + 1)
        L = (self.size - 1) // 4
        padded[:, self.waves[L : 3 * L + 1], : L + 1] = series
        return torch.fft.irfft2(padded, s=(self.size, self.size), norm="forward")


def _by_order(table: np.ndarray, lmax: int) -> tuple[Tensor, Tensor]:
    """Of coefficients ``[u, v, harmonics]`` those with v = |m|: which harmonics, ``[v, 2 (lmax + 1)]``, and for each the real
    and imaginary parts, ``[v, 2 (lmax + 1), 2 u]``; places without a harmonic are zero, and name the first one.
    """
    index = torch.zeros(lmax + 1, 2 * (lmax + 1), dtype=torch.long)
    found = torch.zeros(lmax + 1, 2 * (lmax + 1), 2 * len(table), dtype=torch.float64)
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            row, a = l if m >= 0 else lmax + 1 + l, l * l + l + m
            index[abs(m), row] = a
            found[abs(m), row] = torch.view_as_real(torch.tensor(table[:, abs(m), a])).flatten()
    return index, found


def _continued(lmax: int, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Harmonics ``[theta, phi, (lmax + 1)^2]`` at polar angles of any size: the polynomials, where sin(theta) may be < 0."""
    sin, cos = np.sin(theta)[:, None], np.cos(theta)[:, None]
    points = np.stack(np.broadcast_arrays(sin * np.sin(phi), cos, sin * np.cos(phi)), -1)
    return spherical_harmonics(lmax, torch.tensor(points), normalize=False).numpy()


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
