"""What is measured of Gaunt tensor products: exactness, speed, learning, memory of many-body products."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.groups import O
from erlangen.irreps import Irreps
from erlangen.measure import median_times, peak_memory, relative_change
from erlangen.nn import ManyBodyProduct, TensorProduct
from erlangen.simulate import charged
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Table,
    Training,
    compare,
    exact,
    properties,
    sweep,
)
from erlangen.systems.molecules.gaunt_tensor_product.rivals import (
    NETWORKS,
    ExplicitPowers,
    Road,
    count_parameters,
    e3nn_product,
    gaunt_product,
    network,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PEER = "e3nn, all paths"
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
    """

    seeds: int
    degrees: tuple[int, ...]
    batch: int
    repeats: int
    few_repeats: int
    charges: Sizes
    epochs: int
    bodies: int


BUDGETS = {
    "smoke": Budget(1, (1, 2, 4), 512, 3, 2, Sizes(100, 20, 50), 10, 16),
    "full": Budget(6, (1, 2, 3, 4, 6), 2048, 9, 7, Sizes(1000, 200, 400), 25, 128),
    "paper": Budget(6, (1, 2, 3, 4, 6), 2048, 25, 25, Sizes(3000, 2000, 2000), 500, 128),
}


# --- exactness -------------------------------------------------------------------------------------------------------
def road_gap(run: Run[Any], lmax: int, dtype: torch.dtype) -> float:
    """Largest relative difference of the dense product from the other two, of degrees 0 to `lmax`."""
    generator, worst = run.generator(), 0.0
    for L in range(lmax + 1):
        x, y = torch.randn(2, 20, (L + 1) ** 2, generator=generator, dtype=torch.float64).to(dtype)
        roads: tuple[Road, ...] = ("dense", "grid", "fourier")
        dense, *others = (gaunt_product(L, road)(x, y) for road in roads)
        worst = max(worst, *(relative_change(other, dense, over="batch") for other in others))
    return worst


@exact(tol=1e-12)
def roads_agree(run: Run[Any]) -> float:
    """Largest relative difference of Fourier and grid products from the dense one, degrees 0 to 10."""
    return road_gap(run, 10, torch.float64)


@exact(tol=1e-6)
def roads_agree_float32(run: Run[Any]) -> float:
    """Largest relative difference of Fourier and grid products from the dense one, degrees 0 to 6, in float32."""
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


# --- speed -----------------------------------------------------------------------------------------------------------
def products_of(L: int) -> dict[str, Callable[[Tensor, Tensor], Tensor] | None]:
    """Products of two signals of degrees 0..L; None where a package is missing."""
    irreps, even = Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(2 * L)
    return {
        PEER: e3nn_product(irreps),
        "CG, all paths": TensorProduct(irreps, irreps, rule="cg", form="full"),
        "CG, even paths": TensorProduct(irreps, irreps, even, rule="cg", form="elementwise"),
        "Gaunt, dense": gaunt_product(L, "dense"),
        "Gaunt, fourier": gaunt_product(L, "fourier"),
        "Gaunt, grid": gaunt_product(L, "grid"),
    }


def speed_table(run: Run[Budget], L: int) -> Table:
    """Forward passes of one product in float32."""
    found = products_of(L)
    known = {name: product for name, product in found.items() if product is not None}
    batch, repeats = (8, 1) if run.dry else (run.budget.batch, run.budget.repeats)

    @functools.cache
    def times(seed: int) -> dict[str, tuple[float, int]]:
        x, y = torch.randn(2, batch, (L + 1) ** 2, generator=Generator().manual_seed(seed))
        with torch.no_grad():
            sizes = {name: product(x, y).shape[-1] for name, product in known.items()}
            seconds = median_times({name: partial(product, x, y) for name, product in known.items()}, repeats)
        return {name: (seconds[name], sizes[name]) for name in known}

    def row(name: str, seed: int) -> Mapping[str, Any]:
        if name not in known:
            return {
                "degree": L,
                "seconds": None,
                "ms": None,
                "output": None,
                "note": f"{name.split(',')[0]} is not installed",
            }
        second, size = times(seed)[name]
        equal = {other: time for other, (time, _) in times(seed).items() if "all paths" not in other}
        note = "fastest" if name == min(equal, key=lambda other: equal[other]) else None
        return {"degree": L, "seconds": second, "ms": 1e3 * second, "output": size, "note": note}

    return sweep("speed", {name: partial(row, name) for name in found}, run=run)


def speed_part(run: Run[Budget]) -> Part:
    """Rows for every degree and road, claims at the largest degree."""
    degrees = (1, 2) if run.dry else run.budget.degrees
    tables = [speed_table(run, L) for L in degrees]
    last = tables[-1]
    ours = np.minimum(last["Gaunt, grid", "ms"], last["Gaunt, fourier", "ms"])
    better = f"that of the better of grid and Fourier, at degree {degrees[-1]}."
    statement = f"Time of e3nn's full product over {better}"
    published = "60x at degrees 0..3, 195x at 0..7 on a GPU, compilation of the peer included (authors' notebook)"
    if last.rows[0]["ms"] is None:
        reason = "needs e3nn, which is not installed"
        peer = Claim.not_measurable("faster-than-e3nn", statement, published=published, reason=reason)
    else:
        peer = last.ratio("faster-than-e3nn", statement, last[PEER, "ms"], ours, above=5.0, published=published)
    dense = last.ratio(
        "faster-than-dense",
        f"Time of the dense Gaunt contraction over {better}",
        last["Gaunt, dense", "ms"],
        ours,
        above=3.0,
    )
    return Part([row for t in tables for row in t.rows], [dense, peer], [row for t in tables for row in t.runs])


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
            margin=0.15,
            statement="Test error of the Gaunt network (grid) over that of the network with all CG paths and as many parameters.",
            published="about 4.8e-3 against 5.0e-3 for SEGNN on another n-body task, read off a bar chart",
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


def steps_part(run: Run[Budget]) -> Part:
    """Times of loss and gradient at degree 4, for 50 systems."""
    lmax, repeats = (1, 1) if run.dry else (4, run.budget.few_repeats)
    size = count_parameters(network("CG, all paths", lmax))

    @functools.cache
    def times(seed: int) -> dict[str, float]:
        x, pos = torch.randn(50, 5, 7, generator=Generator().manual_seed(seed)).split([4, 3], -1)
        nets = {name: network(name, lmax, size) for name in NETWORKS}
        return median_times({name: gradient_of(net, x, pos) for name, net in nets.items()}, repeats)

    def row(name: str, seed: int) -> Mapping[str, Any]:
        return {"degree": lmax, "seconds": times(seed)[name], "ms": 1e3 * times(seed)[name]}

    table = sweep("training step", {name: partial(row, name) for name in NETWORKS}, run=run)
    return table.part(
        table.beats(
            "faster-step",
            "Gaunt, grid",
            "CG, all paths",
            "ms",
            statement="Time of a training step with Gaunt products (grid) at degree 4 over that with all CG paths.",
        )
    )


def gradient_of(layer: nn.Module, *x: Tensor) -> Callable[[], object]:
    """A call that takes the gradient of a loss by all parameters, and by inputs that ask for it."""
    inputs = [t for t in x if t.requires_grad]
    return lambda: torch.autograd.grad(layer(*x).square().mean(), [*inputs, *layer.parameters()])


# --- many bodies -----------------------------------------------------------------------------------------------------
def third_powers(rows: int, seed: int) -> tuple[ManyBodyProduct, Tensor]:
    """The product of order 3 of 64 signals of degrees 0..3, read up to degree 2, and rows of them."""
    generator = Generator().manual_seed(seed)
    inputs, outputs = (Irreps([(64, block.ir) for block in Irreps.spherical_harmonics(l)]) for l in (3, 2))
    product = ManyBodyProduct(inputs, outputs, 3, generator=generator)
    return product, torch.randn(rows, inputs.dim, generator=generator, requires_grad=True)


def many_body_part(run: Run[Budget]) -> Part:
    """Third powers, with gradients: time, and counted memory, which is the same in every run."""
    rows = 4 if run.dry else run.budget.bodies

    @functools.cache
    def measured(seed: int) -> dict[str, tuple[float, float]]:
        product, x = third_powers(rows, seed)
        explicit = ExplicitPowers(product)
        calls = {"explicit coupling tensor": gradient_of(explicit, x), "powers of samples": gradient_of(product, x)}
        # First calls, so that the constants of both count: one makes them in the call, the other holds them before.
        peaks = {name: peak_memory(call) for name, call in calls.items()}
        peaks["explicit coupling tensor"] += sum(buffer.nbytes for buffer in explicit.buffers())
        seconds = median_times(calls, 1 if run.dry else run.budget.few_repeats)
        return {name: (seconds[name], peaks[name] / 1e6) for name in calls}

    def row(name: str, seed: int) -> Mapping[str, Any]:
        seconds, megabytes = measured(seed)[name]
        note = f"third powers of {rows} x 64 signals, with gradients"
        return {"degree": 3, "seconds": seconds, "ms": 1e3 * seconds, "MB": megabytes, "note": note}

    names = ("explicit coupling tensor", "powers of samples")
    table = sweep("many bodies", {name: partial(row, name) for name in names}, run=run)
    many, few = (float(table[name, "MB"].mean()) for name in names)
    less = Claim.ratio(
        "less-memory",
        "Peak memory of third powers by the explicit coupling tensor over that of powers of samples (degree 3).",
        measured=many / few,
        at_least=3.0,
        published="5.8 % of e3nn's memory, 32.8 % for MACE's own contraction: a ratio of 5.7 to the latter (GPU)",
    )
    return table.part(less)


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
    """The five parts; a dry run times small products once."""
    exactness = properties(run, roads_agree, roads_agree_float32, equivariant, powers_agree)
    return Result.of(exactness, speed_part(run), learning_part(run), steps_part(run), many_body_part(run), elsewhere())


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
