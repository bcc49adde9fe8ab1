"""Gaunt tensor products (Luo, Chen and Krishnapriyan, ICLR 2024): couple irreps of O(3) by multiplying functions.

Features of degrees 0..L are the coefficients of a function on the sphere. Two of them are coupled by the product of their
functions: Gaunt integrals take the place of Clebsch-Gordan (CG) coefficients. That costs L^3 by way of a Fourier series
or L^4 by values on a grid, both exact, in place of L^6, but it reaches only paths with l1 + l2 + l3 even, and its
weights are one factor per degree. The product itself is `erlangen.nn.TensorProduct` with ``rule="gaunt"``, its powers are
`erlangen.nn.ManyBodyProduct`, and products with the harmonics of edges are `erlangen.nn.edge_gaunt`.

What is re-measured:

- exactness: the three roads to the product (dense, Fourier, grid) agree, and it is equivariant;
- speed: one product against e3nn's full product and our own CG product, by degree. Sizes of outputs differ: the full
  product keeps every path apart. "fastest" marks the first among those with equal outputs;
- learning: the motion of five charges by one message passing network with CG products (all paths, and even paths only) and
  Gaunt products (grid, Fourier), with equal numbers of parameters;
- memory: third powers as in MACE against its contraction with the explicit coupling tensor.

What the paper reports on OC20, on 3BPA and on GPUs needs those data and machines.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, Literal, cast

import torch
from torch import Generator, Tensor, nn

from erlangen import plots
from erlangen.groups import O
from erlangen.irreps import Irreps, gaunt_tensor
from erlangen.irreps.wigner import MAX_WIGNER_DEGREE
from erlangen.measure import median_times, peak_memory, relative_change
from erlangen.nn import IrrepsNetwork, ManyBodyProduct, TensorProduct
from erlangen.simulate import charged
from erlangen.survey.claims import Claim, Result, Scale, System
from erlangen.training import fit

SYSTEM = System(
    title="Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products",
    authors=("Shengjie Luo", "Tianlang Chen", "Aditi S. Krishnapriyan"),
    venue="ICLR",
    year=2024,
    arxiv="2401.10216",
    abstract_claims=(
        "Tensor products of irreps are products of spherical functions, computed in L^3 instead of L^6 by a Fourier basis.",
        "One approach serves feature interactions, equivariant convolutions and many-body interactions.",
        "On OC20 and 3BPA it is faster and at least as accurate as the products that it replaces.",
    ),
)

Row = dict[str, str | float | None]
Road = Literal["dense", "grid", "fourier"]


def experiment(scale: Scale, seed: int) -> Result:
    """The four measurements; "smoke" stops at degree 4, trains 20 steps of one seed, and takes small batches."""
    full = scale == "full"
    speed_rows, speed = benchmark((1, 2, 3, 4, 6) if full else (1, 2, 4), 2048 if full else 512, 9 if full else 3)
    seeds = range(seed, seed + 3) if full else [seed]
    learning_rows, learned = learning(seeds, *((1000, 400, 25) if full else (100, 50, 10)), repeats=7 if full else 2)
    body_rows, bodies = many_body(128 if full else 16, 7 if full else 2, seed)
    rows = [*speed_rows, *learning_rows, *body_rows]
    return Result(rows, [*exactness(10 if full else 4, seed), *speed, *learned, *bodies, *_elsewhere()])


# --- exactness -------------------------------------------------------------------------------------------------------
def gaunt_product(L: int, road: Road = "grid") -> TensorProduct:
    """The product of two signals of degrees 0..L, untruncated up to degree 12."""
    irreps, out = Irreps.spherical_harmonics(L), Irreps.spherical_harmonics(min(2 * L, MAX_WIGNER_DEGREE))
    return TensorProduct(irreps, irreps, out, rule="gaunt", form="elementwise", road=road)


def exactness(lmax: int, seed: int) -> list[Claim]:
    """Agreement of the roads up to a degree, and equivariance under 100 elements of O(3)."""
    generator = Generator().manual_seed(seed)
    gaps: dict[torch.dtype, float] = {torch.float32: 0.0, torch.float64: 0.0}
    for L in range(lmax + 1):
        x, y = torch.randn(2, 20, (L + 1) ** 2, generator=generator, dtype=torch.float64)
        for dtype in [torch.float64] + [torch.float32] * (L <= 6):
            dense, *others = (gaunt_product(L, road)(x.to(dtype), y.to(dtype)) for road in ("dense", "grid", "fourier"))
            gaps[dtype] = max(gaps[dtype], *(relative_change(other, dense, over="batch") for other in others))
    irreps, product = Irreps.spherical_harmonics(4), gaunt_product(4, "fourier")
    g = O(3).sample(100, generator=generator, dtype=torch.float64)
    x, y = torch.randn(2, 100, irreps.dim, generator=generator, dtype=torch.float64)
    moved = product(irreps.act(g, x), irreps.act(g, y))
    error = relative_change(moved, product.irreps_out.act(g, product(x, y)), over="batch")
    return [
        Claim.exact(
            "roads-agree-float64",
            f"Dense, Fourier and grid products of degrees 0..{lmax} agree (relative, float64)",
            measured=gaps[torch.float64],
            tol=1e-12,
        ),
        Claim.exact(
            "roads-agree-float32",
            f"Dense, Fourier and grid products of degrees 0..{min(lmax, 6)} agree (relative, float32)",
            measured=gaps[torch.float32],
            tol=1e-6,
        ),
        Claim.exact(
            "equivariant",
            "The Fourier product of degrees 0..4 is equivariant under 100 Haar elements of O(3) (relative, float64)",
            measured=error,
            tol=1e-11,
        ),
    ]


# --- speed -----------------------------------------------------------------------------------------------------------
def benchmark(degrees: Iterable[int], batch: int, repeats: int) -> tuple[list[Row], list[Claim]]:
    """Forward passes of one product in float32: rows for every degree and road, claims at the largest degree."""
    rows: list[Row] = []
    times: dict[str, float] = {}
    for L in degrees:
        irreps = Irreps.spherical_harmonics(L)
        even = Irreps.spherical_harmonics(2 * L)
        products: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "CG, all paths": TensorProduct(irreps, irreps, rule="cg", form="full"),
            "CG, even paths": TensorProduct(irreps, irreps, even, rule="cg", form="elementwise"),
            **{f"Gaunt, {road}": gaunt_product(L, road) for road in ("dense", "fourier", "grid")},
        }
        peer = _e3nn_product(irreps)
        if peer is not None:
            products["e3nn, all paths"] = peer
        x, y = torch.randn(2, batch, irreps.dim, generator=Generator().manual_seed(L))
        with torch.no_grad():
            sizes = {name: product(x, y).shape[-1] for name, product in products.items()}
            times = median_times({name: partial(product, x, y) for name, product in products.items()}, repeats)
        equal = [name for name in times if "all paths" not in name]
        for name in ("e3nn, all paths", *(name for name in products if name != "e3nn, all paths")):
            row: Row = {"experiment": "speed", "degree": L, "method": name}
            if name in times:
                fastest = "fastest" if name == min(equal, key=times.__getitem__) else None
                row |= {"ms": 1e3 * times[name], "output": sizes[name], "note": fastest}
            else:
                row |= {"note": "e3nn is not installed"}
            rows.append(row)
    return rows, _speed_claims(max(cast("int", row["degree"]) for row in rows), times)


def _speed_claims(L: int, times: dict[str, float]) -> list[Claim]:
    ours = min(times["Gaunt, grid"], times["Gaunt, fourier"])
    dense = Claim.ratio(
        "faster-than-dense",
        f"At degree {L} the dense Gaunt contraction takes at least 3 times as long as the better of grid and Fourier",
        measured=times["Gaunt, dense"] / ours,
        at_least=3.0,
    )
    statement = f"At degree {L} e3nn's full product takes at least 5 times as long as the better of grid and Fourier"
    published = "60x at degrees 0..3, 195x at 0..7 on a GPU, compilation of the peer included (authors' notebook)"
    if "e3nn, all paths" not in times:
        reason = "needs e3nn, which is not installed"
        return [dense, Claim.not_measurable("faster-than-e3nn", statement, published=published, reason=reason)]
    ratio = times["e3nn, all paths"] / ours
    return [dense, Claim.ratio("faster-than-e3nn", statement, measured=ratio, at_least=5.0, published=published)]


def _e3nn_product(irreps: Irreps) -> Callable[[Tensor, Tensor], Tensor] | None:
    """e3nn's full product, if e3nn is there."""
    if importlib.util.find_spec("e3nn") is None:
        return None
    o3: Any = importlib.import_module("e3nn.o3")
    return o3.FullTensorProduct(str(irreps), str(irreps))


# --- learning --------------------------------------------------------------------------------------------------------
NETWORKS: dict[str, tuple[Literal["cg", "gaunt"], str, Road]] = {
    "CG, all paths": ("cg", "eo", "grid"),
    "CG, even paths": ("cg", "y", "grid"),
    "Gaunt, grid": ("gaunt", "y", "grid"),
    "Gaunt, fourier": ("gaunt", "y", "fourier"),
}
"""Rule, parities of features, and road. Features of natural parity reach even l1 + l2 + l3 alone."""
NUM_BASIS = 8
LEARNING_RATE = 2e-2
"""The best of 2e-3, 5e-3, 1e-2 and 2e-2 for CG and for Gaunt products alike."""


def network(name: str, lmax: int, seed: int, parameters: int | None = None) -> IrrepsNetwork:
    """Two layers with 16 channels; the width of the radial network makes up for missing weights of products.

    Args:
        name: one of `NETWORKS`.
        lmax: degree of features and of the harmonics of edges.
        seed: of the initial weights.
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
            generator=Generator().manual_seed(seed),
        )
        if rule == "gaunt":
            for layer in net.layers:
                layer.product = _on_road(cast("TensorProduct", layer.product), road)
        # Products of three random weights have heavy tails; all networks learn faster when they start near zero.
        with torch.no_grad():
            for name in ("down", "skip"):
                for parameter in getattr(net.layers[-1], name).parameters():
                    parameter *= 0.1
        return net

    net = build(32)
    if parameters is None:
        return net
    per_neuron = sum(NUM_BASIS + cast("TensorProduct", layer.product).weight_numel for layer in net.layers)
    return build(32 + round((parameters - count_parameters(net)) / per_neuron))


def _on_road(product: TensorProduct, road: Road) -> TensorProduct:
    x, y, out = product.irreps_x, product.irreps_y, product.irreps_out
    return TensorProduct(x, y, out, rule="gaunt", form="depthwise", weights="given", road=road)


def count_parameters(net: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in net.parameters())


def learning(
    seeds: Iterable[int], train: int, test: int, epochs: int, *, repeats: int
) -> tuple[list[Row], list[Claim]]:
    """Displacements of five charges after one unit of time, from charges, velocities and positions."""
    data = charged(train + test, steps=1000, record_every=1000, generator=Generator().manual_seed(2024))
    x = torch.cat([data.charges, data.vel[:, 0]], -1)
    pos, change = data.pos[:, 0], data.pos[:, 1] - data.pos[:, 0]
    size = count_parameters(network("CG, all paths", 2, 0))
    seeds = list(seeds)
    errors: dict[str, list[float]] = {name: [] for name in NETWORKS}
    curves: dict[str, list[list[float]]] = {name: [] for name in NETWORKS}
    counts: dict[str, int] = {}
    for seed in seeds:
        for name in NETWORKS:
            net = network(name, 2, seed, size)
            counts[name] = count_parameters(net)
            curve = _train(net, (x[:train], pos[:train]), change[:train], epochs, seed)
            with torch.no_grad():
                error = (net(x[train:], pos[train:]) - change[train:]).square().mean()
            errors[name].append(float(error))
            curves[name].append(curve)
    steps = _step_times(repeats)
    straight = float((data.vel[train:, 0] - change[train:]).square().mean())
    rows: list[Row] = [{"experiment": "learning", "method": "constant velocity", "test MSE": straight}]
    for name, values in errors.items():
        rows.append(
            {
                "experiment": "learning",
                "method": name,
                "parameters": counts[name],
                "test MSE": statistics.mean(values),
                "spread": statistics.stdev(values) if len(values) > 1 else None,
                "ms": 1e3 * steps[name],
                "note": f"{len(seeds)} seeds of {epochs} epochs; ms of a training step at degree 4",
            }
        )
    return rows, _learning_claims(errors, curves, steps)


def _learning_claims(
    errors: dict[str, list[float]], curves: dict[str, list[list[float]]], steps: dict[str, float]
) -> list[Claim]:
    mean = {name: statistics.mean(values) for name, values in errors.items()}
    pairs = zip(*(chain(*curves[name]) for name in ("Gaunt, grid", "Gaunt, fourier")), strict=True)
    return [
        Claim.ratio(
            "as-accurate-as-cg",
            "Test error of the Gaunt network (grid), divided by that of the network with all CG paths and as many parameters",
            measured=mean["Gaunt, grid"] / mean["CG, all paths"],
            at_most=1.15,
            published="about 4.8e-3 against 5.0e-3 for SEGNN on another n-body task, read off a bar chart",
        ),
        Claim.exact(
            "roads-learn-alike",
            "Training losses with grid and Fourier products from one seed differ by at most 1e-3 (relative, every epoch)",
            measured=max(abs(a - b) / b for a, b in pairs),
            tol=1e-3,
        ),
        Claim.ratio(
            "faster-step",
            "Time of a training step with Gaunt products (grid) at degree 4, divided by that with all CG paths",
            measured=steps["Gaunt, grid"] / steps["CG, all paths"],
            at_most=1.0,
        ),
    ]


def _train(net: nn.Module, inputs: tuple[Tensor, Tensor], target: Tensor, epochs: int, seed: int) -> list[float]:
    """Adam with a learning rate that falls to zero linearly; the training loss of every epoch."""
    made: list[torch.optim.Optimizer] = []

    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        made.append(torch.optim.Adam(parameters, lr=LEARNING_RATE))
        return made[0]

    def slow_down(epoch: int, _: nn.Module, __: dict[str, float]) -> None:
        for group in made[0].param_groups:
            group["lr"] = LEARNING_RATE * (1 - (epoch + 1) / epochs)

    history = fit(
        net,
        inputs,
        target,
        loss=nn.functional.mse_loss,
        epochs=epochs,
        batch_size=50,
        optimizer=optimizer,
        callbacks=[slow_down],
        seed=seed,
        progress=False,
    ).history
    return [row["loss"] for row in history]


def _step_times(repeats: int) -> dict[str, float]:
    """Median seconds of loss and gradient at degree 4, for 50 systems."""
    size = count_parameters(network("CG, all paths", 4, 0))
    x, pos = torch.randn(50, 5, 7, generator=Generator().manual_seed(0)).split([4, 3], -1)

    def step(net: nn.Module) -> Callable[[], object]:
        return lambda: torch.autograd.grad(net(x, pos).square().mean(), list(net.parameters()))

    return median_times({name: step(network(name, 4, 0, size)) for name in NETWORKS}, repeats)


# --- many bodies -----------------------------------------------------------------------------------------------------
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


def many_body(rows: int, repeats: int, seed: int) -> tuple[list[Row], list[Claim]]:
    """Third powers of 64 signals of degrees 0..3, read up to degree 2: time and memory with gradients."""
    generator = Generator().manual_seed(seed)
    inputs, outputs = (Irreps([(64, block.ir) for block in Irreps.spherical_harmonics(l)]) for l in (3, 2))
    product = ManyBodyProduct(inputs, outputs, 3, generator=generator)
    explicit = ExplicitPowers(product)
    x = torch.randn(rows, inputs.dim, generator=generator, requires_grad=True)
    gap = relative_change(product(x).detach(), explicit(x).detach(), over="batch")

    def step(layer: nn.Module) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(x).square().mean(), [x, *layer.parameters()])

    calls = {"explicit coupling tensor": step(explicit), "powers of samples": step(product)}
    times = median_times(calls, repeats)
    peaks = {name: peak_memory(call) for name, call in calls.items()}
    peaks["explicit coupling tensor"] += sum(buffer.nbytes for buffer in explicit.buffers())
    table: list[Row] = [
        {
            "experiment": "many bodies",
            "method": name,
            "degree": 3,
            "ms": 1e3 * times[name],
            "MB": peaks[name] / 1e6,
            "note": f"third powers of {rows} x 64 signals, with gradients",
        }
        for name in calls
    ]
    few, many = peaks["powers of samples"], peaks["explicit coupling tensor"]
    return table, [
        Claim.exact(
            "powers-agree",
            "Powers of samples equal the contraction with the explicit coupling tensor (relative, float32)",
            measured=gap,
        ),
        Claim.ratio(
            "less-memory",
            "Peak memory of third powers by the explicit coupling tensor, divided by that of powers of samples (degree 3)",
            measured=many / few,
            at_least=3.0,
            published="5.8 % of e3nn's memory, 32.8 % for MACE's own contraction: a ratio of 5.7 to the latter (GPU)",
        ),
    ]


def _elsewhere() -> list[Claim]:
    """What the paper reports on data and machines that are not here."""
    return [
        Claim.not_measurable(
            "oc20",
            "EquiformerV2 with Gaunt products has lower errors on OC20 than without (energy meV / force meV/A, degree 6)",
            published="276 / 20.1 against 285 / 20.5",
            reason="needs the OC20 data (2 million structures) and weeks of GPU time",
        ),
        Claim.not_measurable(
            "3bpa",
            "MACE with Gaunt products is about as accurate on 3BPA at 300 K as without (energy meV / force meV/A)",
            published="2.9 / 9.2 against 3.0 / 8.8",
            reason="needs the 3BPA data and 2000 epochs on a GPU",
        ),
        Claim.not_measurable(
            "gpu-speed",
            "Many-body products are faster than e3nn's on a GPU",
            published="43.7x, MACE's own contraction 33.2x",
            reason="needs a GPU",
        ),
    ]


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Milliseconds of one product by degree, one curve for each way to compute it."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["experiment"] == "speed" and row.get("ms") is not None:
            curves.setdefault(row["method"], []).append((row["degree"], row["ms"]))
    degrees = sorted({degree for curve in curves.values() for degree, _ in curve})
    return plots.line(curves, "degree L of both inputs", "milliseconds of one product", logy=True, xticks=degrees)
