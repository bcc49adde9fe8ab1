"""Products of one channel: what each rule reaches, and what it costs."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from erlangen.irreps import Irrep, Irreps
from erlangen.measure import median_times, relative_change
from erlangen.nn import TensorProduct
from erlangen.nn.products.module import Road, Rule
from erlangen.survey import Claim, Part, Run, Table, bound, exact, largest, properties, sweep

PRODUCTS: dict[str, tuple[Rule, Road]] = {
    "cg": ("cg", "grid"),
    "cg_sparse": ("cg_sparse", "grid"),
    "gaunt, dense": ("gaunt", "dense"),
    "gaunt, grid": ("gaunt", "grid"),
    "gaunt, fourier": ("gaunt", "fourier"),
    "vector": ("vector", "grid"),
    "matrix": ("matrix", "grid"),
}
GAUNT = tuple(name for name in PRODUCTS if name.startswith("gaunt"))
PUBLISHED = ("cg", "cg_sparse", "gaunt, grid", "gaunt, fourier")
"""Those that the claims about published times compare, at the batch of the paper."""
CROSSING = (4, 6)
"""Degrees between which CG becomes the cheaper one per expressivity."""
SETTINGS = ("MIMO", "SIMO", "SISO")
ALL_PATHS = {1: 6, 2: 19, 3: 44, 4: 85}
"""Paths of degrees 0..L with 0..L without a filter on the output, as e3nn's full product has them."""


def natural(lmax: int) -> Irreps:
    """One copy of each degree 0..lmax with the parity of harmonics."""
    return Irreps.spherical_harmonics(lmax)


def natural_paths(L: int) -> int:
    """Number of Clebsch-Gordan paths from degrees 0..L twice to natural parity: ``(L + 1) (L + 2) (2L + 3) / 6``."""
    return (L + 1) * (L + 2) * (2 * L + 3) // 6


def product_of(name: str, setting: str, L: int, outputs: str = "natural") -> TensorProduct | None:
    """The product of one channel, or None where the rule has no path."""
    rule, road = PRODUCTS[name]
    inputs = natural(L) if setting == "MIMO" else Irreps([(1, Irrep(L, (-1) ** L))])
    keep = [Irrep(L, 1)] if setting == "SISO" else [block.ir for block in natural(2 * L)]
    if setting == "SISO" and rule == "gaunt" and L % 2:
        return None
    chosen = None if outputs == "all" else keep
    return TensorProduct(inputs, inputs, rule=rule, road=road, form="elementwise", keep=chosen)


def couplings(product: TensorProduct) -> dict[tuple[int, int, int], float]:
    """Largest entry of the output for each (l1, l2, l3), where only degree l1 of x and l2 of y are not zero; float64."""
    generator = Generator().manual_seed(0)
    pairs = [(a.ir.l, b.ir.l) for a in product.irreps_x for b in product.irreps_y]
    inputs: list[Tensor] = []
    for irreps, degrees in zip((product.irreps_x, product.irreps_y), torch.tensor(pairs).T, strict=True):
        columns = torch.tensor([block.ir.l for block in irreps for _ in range(block.dim)])
        x = irreps.randn(len(pairs), generator=generator, dtype=torch.float64)
        inputs.append(x * (columns == degrees[:, None]))
    out = product(*inputs)
    found: dict[tuple[int, int, int], float] = {}
    for block, where in zip(product.irreps_out, product.irreps_out.slices(), strict=True):
        for (l1, l2), size in zip(pairs, out[:, where].abs().amax(-1).tolist(), strict=True):
            key = (l1, l2, block.ir.l)
            found[key] = max(found.get(key, 0.0), size)
    return found


@functools.cache
def counts(name: str, setting: str, L: int, outputs: str = "natural") -> Mapping[str, int]:
    """What can be counted of a product: outputs, operations, expressivity, interactable triples."""
    product = product_of(name, setting, L, outputs)
    if product is None:
        return {"output irreps": 0, "output dim": 0, "expressivity": 0, "triples": 0}
    return {
        "output irreps": product.irreps_out.num_irreps,
        "output dim": product.irreps_out.dim,
        "flops": product.flops(),
        "expressivity": product.expressivity(),
        "triples": sum(size > 1e-10 for size in couplings(product).values()),
    }


# --- properties ------------------------------------------------------------------------------------------------------
@exact(tol=0, published="5, 14, 30, 55, 91, 140 output irreps at L = 1..6")
def cg_natural_expressivity(run: Run[Any]) -> float:
    """Degrees at which the expressivity of CG to natural parity is not (L+1)(L+2)(2L+3)/6."""
    return sum(counts("cg", "MIMO", L)["expressivity"] != natural_paths(L) for L in run.budget.degrees)


@exact(tol=0)
def cg_all_expressivity(run: Run[Any]) -> float:
    """Degrees up to 4 at which the expressivity of CG without a filter is not 6, 19, 44, 85."""
    return sum(counts("cg", "MIMO", L, "all")["expressivity"] != paths for L, paths in ALL_PATHS.items())


@exact(tol=0)
def cg_reaches_all_triples(run: Run[Any]) -> float:
    """Degrees up to 4 at which CG misses a triple that the triangle inequality allows."""
    allowed = {L: sum(2 * min(a, b) + 1 for a in range(L + 1) for b in range(L + 1)) for L in ALL_PATHS}
    return sum(counts("cg", "MIMO", L, "all")["triples"] != count for L, count in allowed.items())


@exact(tol=0)
def gaunt_expressivity(run: Run[Any]) -> float:
    """Degrees at which the expressivity of the Gaunt product is not 4L + 1, by any of its three ways."""
    return sum(counts(name, "MIMO", L)["expressivity"] != 4 * L + 1 for name in GAUNT for L in run.budget.degrees)


@exact(tol=1e-13)
def gaunt_no_odd_triples(run: Run[Any]) -> float:
    """Largest entry of a Gaunt product at odd l1 + l2 + l3, relative to the largest at all, up to L = 3."""
    worst = 0.0
    for name in GAUNT:
        for L in (1, 2, 3):
            product = product_of(name, "MIMO", L)
            assert product is not None
            found = couplings(product)
            worst = largest(worst, max(size for key, size in found.items() if sum(key) % 2) / max(found.values()))
    return worst


@exact(tol=1e-12)
def vector_is_cross_product(run: Run[Any]) -> float:
    """Relative difference between the vector rule on (1, 1, 1) and a multiple of the cross product."""
    x, y = torch.randn(2, 100, 3, generator=run.generator(), dtype=torch.float64)
    out = TensorProduct("1o", "1o", rule="vector", form="elementwise", keep=["1e"])(x, y)
    cross = torch.linalg.cross(x, y)
    scale = (out * cross).sum() / cross.square().sum()
    return float((out - scale * cross).norm() / out.norm())


@exact(tol=1e-12)
def grid_is_fourier(run: Run[Any]) -> float:
    """Relative difference of the Gaunt product by grid from that by Fourier series, degrees 1 to 6."""
    worst = 0.0
    for L in range(1, 7):
        grid, fourier = (product_of(f"gaunt, {road}", "MIMO", L) for road in ("grid", "fourier"))
        assert grid is not None
        assert fourier is not None
        x, y = (natural(L).randn(20, generator=run.generator(L + i), dtype=torch.float64) for i in (0, 10))
        worst = largest(worst, relative_change(grid(x, y), fourier(x, y), over="batch"))
    return worst


@bound(at_most=0.0)
def grid_grows_as_fourier(run: Run[Any]) -> float:
    """Exponent of L in the operations of the Gaunt product by grid less that by Fourier series, from L = 3 to L = 6."""
    grid, fourier = (exponent(f"gaunt, {road}") for road in ("grid", "fourier"))
    return grid - fourier


def exponent(name: str, low: int = 3, high: int = 6) -> float:
    """Power of L with which the operations of a MIMO product grow between two degrees."""
    few, many = (product_of(name, "MIMO", L) for L in (low, high))
    assert few is not None
    assert many is not None
    return math.log(many.flops() / few.flops()) / math.log(high / low)


PROPERTIES = (
    cg_natural_expressivity,
    cg_all_expressivity,
    cg_reaches_all_triples,
    gaunt_expressivity,
    gaunt_no_odd_triples,
    vector_is_cross_product,
    grid_is_fourier,
    grid_grows_as_fourier,
)


# --- times -----------------------------------------------------------------------------------------------------------
def products_table(
    run: Run[Any], setting: str, L: int, outputs: str, names: tuple[str, ...], batch: int, part: str = "products"
) -> Table:
    """Products of one setting and degree: what is counted, and milliseconds of a forward pass in float32."""
    found = {name: product_of(name, setting, L, outputs) for name in names}
    known = {name: product for name, product in found.items() if product is not None}

    @functools.cache
    def times(seed: int) -> dict[str, float]:
        generator = Generator().manual_seed(seed)
        inputs = next(iter(known.values())).irreps_x
        x, y = (inputs.randn(batch, generator=generator, dtype=torch.float32) for _ in range(2))
        with torch.no_grad():
            calls = {name: partial(product, x, y) for name, product in known.items()}
            # Seconds of the processor: what other programs take of it does not count.
            return median_times(calls, run.budget.repeats, clock=time.process_time)

    def row(name: str, seed: int) -> Mapping[str, Any]:
        made: dict[str, Any] = {"setting": setting, "L": L, "outputs": outputs, **counts(name, setting, L, outputs)}
        if name not in known:
            return {"seconds": None, **made}
        ms = 1e3 * times(seed)[name]
        costs = {f"ms per {word}": ms / made[of] for word, of in (("irrep", "output irreps"), ("expressivity",) * 2)}
        return {"seconds": ms / 1e3, **made, "batch": batch, "ms": ms, **costs, "threads": torch.get_num_threads()}

    return sweep(part, {name: partial(row, name) for name in names}, run=run)


def products_part(run: Run[Any]) -> Part:
    """Properties; all settings and degrees, timed in small batches; the claims about published times."""
    degrees, few = run.budget.degrees, run.budget.batch
    tables = {
        (setting, L): products_table(run, setting, L, "natural", tuple(PRODUCTS), few)
        for setting in SETTINGS
        for L in degrees
    }
    free = [products_table(run, "MIMO", L, "all", ("cg",), few) for L in degrees if L in ALL_PATHS]
    high = [tables["MIMO", L] for L in degrees if L >= 2]
    faster = np.stack([table["gaunt, fourier", "ms"] / table["gaunt, grid", "ms"] for table in high]).min(0)
    grid = high[0].ratio(
        "grid-beats-fourier",
        "Time of the Gaunt product by Fourier series over that by grid, smallest over L >= 2, MIMO.",
        faster,
        np.ones(len(run.seeds)),
        above=1,
        published="217 / 5.1 = 43 at L = 4",
    )
    exactness, published = properties(run, *PROPERTIES), published_part(run)
    every = [*tables.values(), *free]
    return Part(
        [*exactness.rows, *(row for table in every for row in table.rows), *published.rows],
        [*exactness.claims, grid, *published.claims],
        [*(row for table in every for row in table.runs), *published.runs],
    )


def published_part(run: Run[Any]) -> Part:
    """MIMO at the degrees 4 and 6 and the batch of the paper, timed often enough for an interval."""
    often = replace(run, budget=replace(run.budget, seeds=run.budget.timings))
    at = {
        L: products_table(often, "MIMO", L, "natural", PUBLISHED, run.budget.published_batch, "published batch")
        for L in CROSSING
    }
    low, high = (at[L] for L in CROSSING)
    cost = "ms per expressivity"
    claims = [
        low.ratio(
            "cg-cheapest-per-irrep",
            "Time per output irrep of CG over that of the Gaunt product by grid, MIMO, L = 4, batch 10,000.",
            low["cg", "ms per irrep"],
            low["gaunt, grid", "ms per irrep"],
            below=1,
            published="(21.0 / 55) / (5.1 / 9) = 0.67",
        ),
        low.ratio(
            "grid-cheaper-per-expressivity-at-4",
            "Time per expressivity of CG over that of the Gaunt product by grid, MIMO, L = 4, batch 10,000.",
            low["cg", cost],
            low["gaunt, grid", cost],
            above=1,
            published="(21.0 / 55) / (5.1 / 17) = 1.27",
        ),
        high.ratio(
            "cg-cheaper-per-expressivity-at-6",
            "Time per expressivity of CG over that of the Gaunt product by grid, MIMO, L = 6, batch 10,000.",
            high["cg", cost],
            high["gaunt, grid", cost],
            below=1,
            published="(424.5 / 506) / (60.1 / 41) = 0.57 at L = 10",
        ),
        low.ratio(
            "asymptotic-and-measured-differ",
            "Time of sparse CG, which takes fewer operations, over that of dense CG, MIMO, the smaller of L = 4 and 6.",
            np.minimum(*(table["cg_sparse", "ms"] / table["cg", "ms"] for table in (low, high))),
            np.ones(len(often.seeds)),
            above=1,
            published="33.2 / 21.0 = 1.58 at L = 4",
        ),
        Claim.not_measurable(
            "mace-training",
            "Training of the MACE potential is 30 % faster with the Gaunt product by grid than by Fourier series.",
            published="30 % faster",
            reason="needs a GPU and the MACE training run on 3BPA; the products themselves are timed above",
        ),
    ]
    return Part([*low.rows, *high.rows], claims, [*low.runs, *high.runs])
