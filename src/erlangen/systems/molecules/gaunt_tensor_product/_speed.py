"""What is timed and counted of Gaunt tensor products: one product, products with edges, training steps, many bodies."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from erlangen.irreps import Irreps, spherical_harmonics
from erlangen.irreps.wigner import MAX_WIGNER_DEGREE
from erlangen.measure import median_times, peak_memory
from erlangen.nn import ManyBodyProduct, TensorProduct, edge_gaunt
from erlangen.nn.products.constants import Constant
from erlangen.survey import Claim, Part, Run, Table, sweep
from erlangen.systems.molecules.gaunt_tensor_product.rivals import (
    NETWORKS,
    ExplicitPowers,
    Road,
    SeriesProduct,
    count_parameters,
    e3nn_product,
    gaunt_product,
    network,
)

PEER, SERIES = "e3nn, all paths", "Gaunt, fourier by FFT"


processor_times = partial(median_times, clock=time.process_time)
"""Median seconds of one core; what other programs take of it does not count."""


# --- speed -----------------------------------------------------------------------------------------------------------
def products_of(L: int) -> dict[str, Callable[[Tensor, Tensor], Tensor] | None]:
    """Products of two signals of degrees 0..L; None where a package is missing."""
    irreps, even = Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(2 * L)
    return {
        PEER: e3nn_product(irreps),
        "CG, all paths": TensorProduct(irreps, irreps, rule="cg", form="full"),
        "CG, even paths": TensorProduct(irreps, irreps, even, rule="cg", form="elementwise"),
        "Gaunt, dense": gaunt_product(L, "dense"),
        SERIES: SeriesProduct(L, min(2 * L, MAX_WIGNER_DEGREE)),
        "Gaunt, fourier": gaunt_product(L, "fourier"),
        "Gaunt, grid": gaunt_product(L, "grid"),
    }


def exponents(tables: Mapping[int, Table], name: str) -> np.ndarray:
    """Power of L with which the time of a product grows: the slope of its logarithm over all degrees, for every seed."""
    slopes = np.polyfit(np.log(list(tables)), np.log([table[name, "ms"] for table in tables.values()]), 1)
    return slopes[0]


def speed_table(run: Run[Any], L: int) -> Table:
    """Forward passes of one product in float32."""
    found = products_of(L)
    known = {name: product for name, product in found.items() if product is not None}
    batch, repeats = (8, 1) if run.dry else (run.budget.batch, run.budget.repeats)

    @functools.cache
    def times(seed: int) -> dict[str, tuple[float, int]]:
        x, y = torch.randn(2, batch, (L + 1) ** 2, generator=Generator().manual_seed(seed))
        with torch.no_grad():
            sizes = {name: product(x, y).shape[-1] for name, product in known.items()}
            seconds = processor_times({name: partial(product, x, y) for name, product in known.items()}, repeats)
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


def speed_part(run: Run[Any]) -> Part:
    """Rows for every degree and road; claims about the Fourier road, which is the paper's, at the largest degree."""
    degrees = (1, 2) if run.dry else run.budget.degrees
    tables = {L: speed_table(run, L) for L in degrees}
    last, fitted = tables[degrees[-1]], {L: table for L, table in tables.items() if min(3, degrees[-2]) <= L}

    def faster(name: str, theirs: str, words: str, published: str | None = None) -> Claim:
        statement = f"Time of {words} over that of the Gaunt product by Fourier series, at degree {degrees[-1]}."
        if theirs not in measured:
            reason = "needs e3nn, which is not installed"
            return Claim.not_measurable(name, statement, published=published, reason=reason)
        return last.ratio(
            name, statement, last[theirs, "ms"], last["Gaunt, fourier", "ms"], above=1, published=published
        )

    measured = {row["model"] for row in last.rows if row["ms"] is not None}
    gpu = "60x at degrees 0..3, 195x at 0..7 on a GPU, compilation of the peer included (authors' notebook)"
    claims = [
        faster("faster-than-dense", "Gaunt, dense", "the dense Gaunt contraction"),
        faster("faster-than-e3nn", PEER, "e3nn's full product, which has more outputs,", gpu),
        faster("faster-than-cg-even", "CG, even paths", "the CG product of the same inputs and outputs"),
        last.bound(
            "exponent-of-fourier",
            "Power of L in the time of the Gaunt product by Fourier series and FFT, fitted to degrees from 3 on.",
            exponents(fitted, SERIES),
            at_most=3,
            published="3",
        ),
        last.bound(
            "exponent-below-cg",
            "Power of L in the time of the CG product with equal outputs, less that of the Gaunt product by FFT.",
            exponents(fitted, "CG, even paths") - exponents(fitted, SERIES),
            at_least=0,
            published="6 - 3",
        ),
    ]
    return Part(
        [row for t in tables.values() for row in t.rows], claims, [row for t in tables.values() for row in t.runs]
    )


# --- edges -----------------------------------------------------------------------------------------------------------
def edges_part(run: Run[Any]) -> Part:
    """Products of 16 signals with the harmonics of an edge each, as in convolutions; harmonics are part of the time."""
    L = 2 if run.dry else run.budget.degrees[-1]
    irreps, count, repeats = Irreps.spherical_harmonics(L), run.budget.edges, 1 if run.dry else run.budget.few_repeats
    roads: tuple[Road, ...] = ("fourier", "grid")
    general = {
        f"Gaunt, {road}": TensorProduct(irreps, irreps, irreps, rule="gaunt", form="elementwise", road=road)
        for road in roads
    }
    general["CG, even paths"] = TensorProduct(irreps, irreps, irreps, rule="cg", form="elementwise")

    def with_harmonics(product: TensorProduct, x: Tensor, vectors: Tensor) -> Tensor:
        return product(x, spherical_harmonics(L, vectors)[:, None].expand_as(x))

    @functools.cache
    def times(seed: int) -> dict[str, float]:
        generator = Generator().manual_seed(seed)
        x, vectors = torch.randn(count, 16, irreps.dim, generator=generator), torch.randn(count, 3, generator=generator)
        calls: dict[str, Callable[[], object]] = {n: partial(with_harmonics, p, x, vectors) for n, p in general.items()}
        calls["Gaunt, frame of the edge"] = partial(edge_gaunt, x, vectors, L)
        with torch.no_grad():
            return processor_times(calls, repeats)

    def row(name: str, seed: int) -> Mapping[str, Any]:
        return {"degree": L, "seconds": times(seed)[name], "ms": 1e3 * times(seed)[name]}

    names = ("CG, even paths", "Gaunt, fourier", "Gaunt, grid", "Gaunt, frame of the edge")
    table = sweep("edges", {name: partial(row, name) for name in names}, run=run)
    frame, product = table["Gaunt, frame of the edge", "ms"], "Time of products with edges"
    return table.part(
        table.ratio(
            "edge-frame-faster-than-cg",
            f"{product} by CG over that by Gaunt products in the frame of the edge, equal outputs, at degree {L}.",
            table["CG, even paths", "ms"],
            frame,
            above=1,
        ),
        table.ratio(
            "edge-frame-faster-than-general",
            f"{product} by general Gaunt products (Fourier) over that in the frame of the edge, at degree {L}.",
            table["Gaunt, fourier", "ms"],
            frame,
            above=1,
        ),
    )


# --- training steps ----------------------------------------------------------------------------------------------------
def steps_part(run: Run[Any]) -> Part:
    """Times of loss and gradient at degree 4, for 50 systems."""
    lmax, repeats = (1, 1) if run.dry else (4, run.budget.few_repeats)
    size = count_parameters(network("CG, all paths", lmax))

    @functools.cache
    def times(seed: int) -> dict[str, float]:
        x, pos = torch.randn(50, 5, 7, generator=Generator().manual_seed(seed)).split([4, 3], -1)
        nets = {name: network(name, lmax, size) for name in NETWORKS}
        return processor_times({name: gradient_of(net, x, pos) for name, net in nets.items()}, repeats)

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
        ),
        table.beats(
            "faster-step-than-cg-even",
            "Gaunt, grid",
            "CG, even paths",
            "ms",
            statement="Time of a training step with Gaunt products (grid) at degree 4 over that of CG with the same features.",
        ),
        table.beats(
            "faster-step-fourier",
            "Gaunt, fourier",
            "CG, all paths",
            "ms",
            statement="Time of a training step with Gaunt products (Fourier) at degree 4 over that with all CG paths.",
        ),
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


def many_body_part(run: Run[Any]) -> Part:
    """Third powers, with gradients: time, and counted memory, which is the same in every run."""
    rows = 4 if run.dry else run.budget.bodies

    @functools.cache
    def measured(seed: int) -> dict[str, tuple[float, float]]:
        product, x = third_powers(rows, seed)
        explicit = ExplicitPowers(product)
        calls = {"explicit coupling tensor": gradient_of(explicit, x), "powers of samples": gradient_of(product, x)}
        held = dict(zip(calls, map(constants, (explicit, product)), strict=True))
        peaks = {name: peak_memory(call) + held[name] for name, call in calls.items()}
        seconds = processor_times(calls, 1 if run.dry else run.budget.few_repeats)
        return {name: (seconds[name], peaks[name] / 1e6) for name in calls}

    def row(name: str, seed: int) -> Mapping[str, Any]:
        seconds, megabytes = measured(seed)[name]
        note = f"third powers of {rows} x 64 signals, with gradients"
        return {"degree": 3, "seconds": seconds, "ms": 1e3 * seconds, "MB": megabytes, "note": note}

    names = ("explicit coupling tensor", "powers of samples")
    table = sweep("many bodies", {name: partial(row, name) for name in names}, run=run)
    many, few = (float(table[name, "MB"].mean()) for name in names)
    explicit, samples = (table[name, "ms"] for name in names)
    less = Claim.ratio(
        "less-memory",
        "Peak memory of third powers by the explicit coupling tensor over that of powers of samples (degree 3).",
        measured=many / few,
        at_least=5.66,
        published="5.8 % of e3nn's memory, 32.8 % for MACE's own contraction: a ratio of 5.66 to the latter (GPU)",
    )
    faster = table.ratio(
        "many-body-faster",
        "Time of third powers and their gradients by the explicit coupling tensor over that of powers of samples (degree 3).",
        explicit,
        samples,
        above=1.32,
        published="43.7x and 33.2x of e3nn: a ratio of 1.32 (GPU)",
    )
    return table.part(less, faster)


def constants(layer: nn.Module) -> int:
    """Bytes of what a layer holds beside its weights: buffers, and tables that are not buffers."""
    tables = [value.value for value in vars(layer).values() if isinstance(value, Constant)]
    return sum(tensor.nbytes for tensor in (*layer.buffers(), *tables))
