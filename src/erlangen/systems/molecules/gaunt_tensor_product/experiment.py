"""What is measured of Gaunt tensor products: exactness, learning, and what is timed in `_speed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.groups import O
from erlangen.irreps import Irreps, spherical_harmonics
from erlangen.irreps.wigner import MAX_WIGNER_DEGREE
from erlangen.measure import relative_change
from erlangen.nn import TensorProduct, edge_gaunt
from erlangen.simulate import charged
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    compare,
    exact,
    largest,
    properties,
)
from erlangen.systems.molecules.gaunt_tensor_product._speed import (
    edges_part,
    many_body_part,
    speed_part,
    steps_part,
    third_powers,
)
from erlangen.systems.molecules.gaunt_tensor_product.rivals import (
    NETWORKS,
    ExplicitPowers,
    Road,
    SeriesProduct,
    count_parameters,
    gaunt_product,
    network,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MSE = "test MSE"
Key = tuple[str, int, float]
"""Name of a network, seed and learning rate."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        degrees, batch: of the products that are timed, and how many of them at a time.
        repeats, few_repeats: calls that count, of products, and of training steps and powers.
        charges: systems of charges.
        bodies: rows of 64 signals whose powers are taken.
        edges: edges that are multiplied with 16 signals each.
    """

    seeds: int
    degrees: tuple[int, ...]
    batch: int
    repeats: int
    few_repeats: int
    charges: Sizes
    epochs: int
    bodies: int
    edges: int


BUDGETS = {
    "smoke": Budget(1, (1, 2, 4), 512, 3, 2, Sizes(100, 20, 50), 10, 16, 16),
    "full": Budget(6, (1, 2, 3, 4, 5, 6), 2048, 9, 7, Sizes(1000, 200, 400), 25, 128, 128),
    "paper": Budget(6, (1, 2, 3, 4, 5, 6), 2048, 25, 25, Sizes(3000, 2000, 2000), 500, 128, 128),
}


# --- exactness -------------------------------------------------------------------------------------------------------
def road_gap(run: Run[Any], lmax: int, dtype: torch.dtype) -> float:
    """Largest relative difference of the dense product from the others, of degrees 0 to `lmax`."""
    generator, worst = run.generator(), 0.0
    for L in range(lmax + 1):
        x, y = torch.randn(2, 20, (L + 1) ** 2, generator=generator, dtype=torch.float64).to(dtype)
        roads: tuple[Road, ...] = ("dense", "grid", "fourier")
        dense, *others = (gaunt_product(L, road)(x, y) for road in roads)
        others.append(SeriesProduct(L, min(2 * L, MAX_WIGNER_DEGREE), dtype)(x, y))
        worst = largest(worst, *(relative_change(other, dense, over="batch") for other in others))
    return worst


@exact(tol=1e-12)
def roads_agree(run: Run[Any]) -> float:
    """Largest relative difference of Fourier (values, and FFT) and grid products from the dense one, degrees 0 to 10."""
    return road_gap(run, 10, torch.float64)


@exact(tol=1e-6)
def roads_agree_float32(run: Run[Any]) -> float:
    """Largest relative difference of Fourier (values, FFT) and grid products from the dense one, degrees 0 to 6, in float32."""
    return road_gap(run, 6, torch.float32)


@exact(tol=1e-11)
def equivariant(run: Run[Any]) -> float:
    """Relative error of equivariance of the Fourier product of degrees 0..4 under 100 Haar elements of O(3)."""
    generator = run.generator()
    irreps, product = Irreps.spherical_harmonics(4), gaunt_product(4, "fourier")
    g = O(3).sample(100, generator=generator, dtype=torch.float64)
    x, y = torch.randn(2, 100, irreps.dim, generator=generator, dtype=torch.float64)
    moved = product(irreps.act(g, x), irreps.act(g, y))
    return relative_change(moved, product.irreps_out.act(g, product(x, y)), over="batch")


@exact(tol=1e-5)
def powers_agree(run: Run[Any]) -> float:
    """Relative difference of powers of samples from the contraction with the explicit coupling tensor, in float32."""
    product, x = third_powers(16, run.seed)
    return relative_change(product(x).detach(), ExplicitPowers(product)(x).detach(), over="batch")


@exact(tol=1e-12)
def edge_frame_agrees(run: Run[Any]) -> float:
    """Relative difference of products with edges in the frame of the edge from general ones, degree 4, poles included."""
    generator, irreps = run.generator(), Irreps.spherical_harmonics(4)
    x = torch.randn(50, 1, irreps.dim, generator=generator, dtype=torch.float64)
    vectors = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    vectors[:2] = torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0]], dtype=torch.float64)
    product = TensorProduct(irreps, irreps, irreps, rule="gaunt", form="elementwise", road="dense")
    expected = product(x[:, 0], spherical_harmonics(4, vectors))
    return relative_change(edge_gaunt(x, vectors, 4)[:, 0], expected, over="batch")


# --- learning --------------------------------------------------------------------------------------------------------
class Straight(nn.Module):
    """On with the velocity, which the last three features are."""

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        """Displacements ``[B, 5, 3]`` after one unit of time."""
        return x[0][..., 1:]


def learning_part(run: Run[Budget]) -> Part:
    """Displacements of five charges after one unit of time, from charges, velocities and positions."""
    sizes = run.sizes(run.budget.charges)
    size = count_parameters(network("CG, all paths", 2))
    curves: dict[Key, list[float]] = {}

    def draw(seed: int) -> Split:
        data = charged(sizes.total, steps=1000, record_every=1000, generator=Generator().manual_seed(2024 + seed))
        x = torch.cat([data.charges, data.vel[:, 0]], -1)
        return Split.of((x, data.pos[:, 0]), data.pos[:, 1] - data.pos[:, 0], sizes)

    def fitted(name: str, net: nn.Module, split: Split, rate: float, how: Training, generator: Generator) -> None:
        """As all are fitted; the training loss of every epoch is kept."""
        done = how.fit(net, split, rate, generator)
        curves[name, generator.initial_seed(), rate] = [row["loss"] for row in done.history]

    @torch.no_grad()
    def measure(net: nn.Module, x: tuple[Tensor, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {MSE: float((net(x) - y).square().mean())}

    rivals: dict[str, Rival] = {"constant velocity": Rival(Straight, trains=False)}
    rivals |= {name: Rival(partial(network, name, 2, size), fit=partial(fitted, name)) for name in NETWORKS}
    how = Training(mse_loss, run.budget.epochs, 50, rates=(2e-2, 1e-2, 5e-3), optimizer=torch.optim.Adam)
    table = compare("learning", rivals, draw, how, measure, best=MSE, run=run)
    # Training with too large a rate magnifies rounding; rates that one of the two has chosen are not too large.
    chosen = {float(table[name, "learning rate"][0]) for name in ("Gaunt, grid", "Gaunt, fourier")}
    return table.part(
        table.not_worse(
            "as-accurate-as-cg",
            "Gaunt, grid",
            "CG, all paths",
            MSE,
            statement="Test error of the Gaunt network (grid) over that of the network with all CG paths and as many parameters.",
            published="about 4.8e-3 against 5.0e-3 for SEGNN on another n-body task, read off a bar chart",
        ),
        table.not_worse(
            "as-accurate-as-cg-even",
            "Gaunt, grid",
            "CG, even paths",
            MSE,
            statement="Test error of the Gaunt network (grid) over that of the CG network with the same features and as many "
            "parameters.",
        ),
        table.same(
            "roads-learn-alike",
            "Largest relative difference of training losses with grid and Fourier products, same seed and rate, every epoch.",
            differences(curves, "Gaunt, grid", "Gaunt, fourier", chosen),
            0.0,
            tol=1e-3,
        ),
    )


def differences(curves: Mapping[Key, list[float]], ours: str, theirs: str, rates: set[float]) -> np.ndarray:
    """Relative differences of the curves of two networks, wherever both were trained with one of the rates."""
    pairs = [
        (curve, curves[theirs, seed, rate])
        for (name, seed, rate), curve in curves.items()
        if name == ours and rate in rates and (theirs, seed, rate) in curves
    ]
    a, b = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    return a / b - 1


# --- all -------------------------------------------------------------------------------------------------------------
def elsewhere() -> Part:
    """What the paper reports on data and machines that are not here."""
    return Part(
        claims=[
            Claim.not_measurable(
                "oc20",
                "EquiformerV2 with Gaunt products has lower errors on OC20 than without (energy meV / force meV/A, degree 6).",
                published="276 / 20.1 against 285 / 20.5",
                reason="needs the OC20 data (2 million structures) and weeks of GPU time",
            ),
            Claim.not_measurable(
                "3bpa",
                "MACE with Gaunt products is about as accurate on 3BPA at 300 K as without (energy meV / force meV/A).",
                published="2.9 / 9.2 against 3.0 / 8.8",
                reason="needs the 3BPA data and 2000 epochs on a GPU",
            ),
            Claim.not_measurable(
                "gpu-speed",
                "Many-body products are faster than e3nn's on a GPU.",
                published="43.7x, MACE's own contraction 33.2x",
                reason="needs a GPU",
            ),
        ]
    )


def experiment(run: Run[Budget]) -> Result:
    """All parts; a dry run times small products once."""
    exactness = properties(run, roads_agree, roads_agree_float32, equivariant, powers_agree, edge_frame_agrees)
    speed = (speed_part(run), edges_part(run), steps_part(run), many_body_part(run))
    return Result.of(exactness, *speed, learning_part(run), elsewhere())


def figure(result: Result) -> Figure:
    """Milliseconds of one product by degree, one curve for each way to compute it."""
    from erlangen import plots

    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        # Version 0.1.0 called the columns "experiment" and "method".
        name = row.get("model", row.get("method"))
        if row.get("part", row.get("experiment")) == "speed" and row.get("ms") is not None:
            curves.setdefault(str(name), []).append((row["degree"], row["ms"]))
    degrees = sorted({degree for curve in curves.values() for degree, _ in curve})
    return plots.line(curves, "degree L of both inputs", "milliseconds of one product", logy=True, xticks=degrees)
