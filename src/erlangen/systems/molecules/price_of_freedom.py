"""The Price of Freedom: what the operations that are all called "tensor product" can do, and what they cost.

Xie, Daigavane, Kotak and Smidt (ICML 2025) compare products of irreps of O(3). Fast ones are not faster ways to the same
result: they compute less. Two numbers say how much. *Expressivity* is the dimension of the set of bilinear maps that a
product reaches with free linear maps before and after it; *interactability* says which triples of degrees (l1, l2, l3) can
be non-zero at all. The Clebsch-Gordan product has every path. The Gaunt product, which multiplies functions on the sphere,
has only paths with even l1 + l2 + l3, with weights in common; products of vector fields on the sphere bring odd paths
back. The paper also shows that the Gaunt product needs no Fourier series: values on a grid do.

Re-measured here, on `erlangen.nn.TensorProduct` and `erlangen.nn.IrrepsNetwork`, in which only the rule differs:

1. Products of one channel: milliseconds, operations, outputs, expressivity and interactable triples for degrees
   L = 1, ..., 6. Settings: MIMO takes degrees 0..L of both inputs to 0..2L, SIMO takes L x L to 0..2L, SISO L x L to L.
   Outputs are those of natural parity (-1)^l, which a signal on the sphere can carry, unless the row says "all": a count
   without this filter means nothing. In SISO the output is even, so for odd L it is a path that signals do not have.
2. Tetris: eight pieces of four cubes, two of which are mirror images. They are told apart by a pseudoscalar such as
   a . (b x c), so a network needs an odd path. Products of true signals are true signals, however many layers there are;
   that is why pseudo-signals do not help either, even when a constant pseudoscalar is fed in: it only multiplies what is
   the same for both pieces. Trained upright; tested on random rotations and on reflections.
3. Charged particles: positions one unit of time ahead, with equally many parameters for every rule (within 5 %), and at
   equal training time: the validation error that each rule has when the fastest has finished.

What the Gaunt product loses depends on L: at L = 1 its rank 4L + 1 is the number of paths, 5; at L = 6 it is 25 of 140.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from erlangen import plots
from erlangen.groups import SO
from erlangen.irreps import Irrep, Irreps
from erlangen.measure import median_times
from erlangen.nn import IrrepsNetwork, TensorProduct
from erlangen.nn.products.module import Road, Rule
from erlangen.simulate import charged
from erlangen.survey.claims import Claim, Result, Scale, System
from erlangen.training import fit

SYSTEM = System(
    title="The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products",
    authors=("YuQing Xie", "Ameya Daigavane", "Mit Kotak", "Tess Smidt"),
    venue="ICML",
    year=2025,
    arxiv="2506.13523",
    abstract_claims=(
        "Operations called tensor product do not all compute the same; reported speed is usually paid for in expressivity.",
        "Expressivity and interactability measure the difference.",
        "The Gaunt product can be computed on a grid on the sphere, at no cost in asymptotic time.",
        "The grid is faster in benchmarks, and trains the MACE potential 30 % faster.",
        "Asymptotic cost and measured time can differ widely.",
    ),
)

Row = dict[str, Any]
Curve = list[tuple[float, float]]
"""Validation errors, with the seconds at which they were reached."""

# --- 1. products -----------------------------------------------------------------------------------------------------
PRODUCTS: dict[str, tuple[Rule, Road]] = {
    "cg": ("cg", "grid"),
    "cg_sparse": ("cg_sparse", "grid"),
    "gaunt, dense": ("gaunt", "dense"),
    "gaunt, grid": ("gaunt", "grid"),
    "gaunt, fourier": ("gaunt", "fourier"),
    "vector": ("vector", "grid"),
    "matrix": ("matrix", "grid"),
}
SETTINGS = ("MIMO", "SIMO", "SISO")
ALL_PATHS = {1: 6, 2: 19, 3: 44, 4: 85}
"""Paths of degrees 0..L with 0..L without a filter on the output, as published."""


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


def milliseconds(product: TensorProduct, batch: int, repeats: int, seed: int) -> float:
    """Median time of one forward pass in float32 after two that do not count."""
    generator = Generator().manual_seed(seed)
    x, y = (
        irreps.randn(batch, generator=generator, dtype=torch.float32) for irreps in (product.irreps_x, product.irreps_y)
    )
    with torch.no_grad():
        return 1e3 * median_times({"": lambda: product(x, y)}, repeats)[""]


def product_row(name: str, setting: str, L: int, batch: int, repeats: int, seed: int, outputs: str = "natural") -> Row:
    """One row of the table of products."""
    row: Row = {"part": "products", "rule": name, "setting": setting, "L": L, "outputs": outputs}
    product = product_of(name, setting, L, outputs)
    if product is None:
        return {**row, "output irreps": 0, "output dim": 0, "expressivity": 0, "triples": 0}
    ms, rank, count = milliseconds(product, batch, repeats, seed), product.expressivity(), product.irreps_out.num_irreps
    sizes = {"output irreps": count, "output dim": product.irreps_out.dim, "flops": product.flops()}
    triples = sum(size > 1e-10 for size in couplings(product).values())
    times = {"ms": ms, "ms per irrep": ms / count, "ms per expressivity": ms / rank, "threads": torch.get_num_threads()}
    return {**row, **sizes, "expressivity": rank, "triples": triples, **times}


def odd_part(L: int) -> float:
    """Largest entry of a Gaunt product on triples with odd l1 + l2 + l3, relative to all, over its three ways."""
    worst = 0.0
    for name in ("gaunt, dense", "gaunt, grid", "gaunt, fourier"):
        product = product_of(name, "MIMO", L)
        assert product is not None
        found = couplings(product)
        worst = max(worst, max(size for key, size in found.items() if sum(key) % 2) / max(found.values()))
    return worst


def cross_product_error(seed: int) -> float:
    """Largest relative difference between the vector rule's 1o x 1o -> 1e and a multiple of the cross product."""
    x, y = torch.randn(2, 100, 3, generator=Generator().manual_seed(seed), dtype=torch.float64)
    out = TensorProduct("1o", "1o", rule="vector", form="elementwise", keep=["1e"])(x, y)
    cross = torch.linalg.cross(x, y)
    scale = (out * cross).sum() / cross.square().sum()
    return float((out - scale * cross).norm() / out.norm())


def product_claims(rows: Sequence[Row], degrees: Sequence[int], seed: int) -> list[Claim]:
    """Claims about single products."""
    table = {(row["rule"], row["L"]): row for row in rows if row["setting"] == "MIMO" and row["outputs"] != "all"}
    free = {row["L"]: row["expressivity"] for row in rows if row["outputs"] == "all"}
    triples = {row["L"]: row["triples"] for row in rows if row["outputs"] == "all"}
    allowed = {L: sum(2 * min(a, b) + 1 for a in range(L + 1) for b in range(L + 1)) for L in triples}

    def ratios(name: str, other: str, column: str) -> dict[int, float]:
        return {L: table[name, L][column] / table[other, L][column] for L in degrees}

    fourier = ratios("gaunt, fourier", "gaunt, grid", "ms")
    per_rank, per_irrep = (ratios("cg", "gaunt, grid", f"ms per {what}") for what in ("expressivity", "irrep"))
    return [
        Claim.exact(
            "cg-natural-expressivity",
            "Degrees at which the expressivity of CG to natural parity is not (L+1)(L+2)(2L+3)/6.",
            measured=sum(table["cg", L]["expressivity"] != natural_paths(L) for L in degrees),
            tol=0,
            published="5, 14, 30, 55, 91, 140 output irreps at L = 1..6",
        ),
        Claim.exact(
            "cg-all-expressivity",
            "Degrees at which the expressivity of CG without a filter is not 6, 19, 44, 85.",
            measured=sum(free[L] != ALL_PATHS[L] for L in free if L in ALL_PATHS),
            tol=0,
        ),
        Claim.exact(
            "cg-reaches-all-triples",
            "Degrees at which CG misses a triple that the triangle inequality allows.",
            measured=sum(triples[L] != allowed[L] for L in triples),
            tol=0,
        ),
        Claim.exact(
            "gaunt-expressivity",
            "Degrees at which the expressivity of the Gaunt product is not 4L + 1, by any of its three ways.",
            measured=sum(
                row["expressivity"] != 4 * L + 1 for (name, L), row in table.items() if name.startswith("gaunt")
            ),
            tol=0,
        ),
        Claim.exact(
            "gaunt-no-odd-triples",
            "Largest entry of a Gaunt product at odd l1 + l2 + l3, relative to the largest at all, up to L = 3.",
            measured=max(odd_part(L) for L in degrees if L <= 3),
            tol=1e-13,
        ),
        Claim.exact(
            "vector-is-cross-product",
            "Relative difference between the vector rule on (1, 1, 1) and a multiple of the cross product.",
            measured=cross_product_error(seed),
            tol=1e-12,
        ),
        Claim.ratio(
            "grid-beats-fourier",
            "Time of the Gaunt product by Fourier series over that by grid, smallest over L >= 2, MIMO.",
            measured=min(ratio for L, ratio in fourier.items() if L >= 2),
            at_least=1,
            published="217 / 5.1 = 43 at L = 4",
        ),
        Claim.ratio(
            "cg-cheapest-per-expressivity",
            "Time per expressivity of CG over that of the Gaunt product by grid, largest over L <= 4, MIMO.",
            measured=max(ratio for L, ratio in per_rank.items() if L <= 4),
            at_most=1,
        ),
        Claim.ratio(
            "cg-cheapest-per-irrep",
            "Time per output irrep of CG over that of the Gaunt product by grid, largest over L <= 4, MIMO.",
            measured=max(ratio for L, ratio in per_irrep.items() if L <= 4),
            at_most=1,
            published="(21.0 / 55) / (5.1 / 9) = 0.67 at L = 4",
        ),
        Claim.not_measurable(
            "mace-training",
            "Training of the MACE potential is 30 % faster with the Gaunt product by grid than by Fourier series.",
            published="30 % faster",
            reason="needs a GPU and the MACE training run on 3BPA; the products themselves are timed above",
        ),
    ]


# --- 2. tetris -------------------------------------------------------------------------------------------------------
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


def parameters(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in model.parameters())


class TetrisNetwork(nn.Module):
    """Logits ``[B, 8]`` of pieces ``[B, 4, 3]``; with a pseudoscalar o, those of the mirror images are o e and -o e."""

    def __init__(self, name: str, generator: Generator) -> None:
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


def tetris(name: str, epochs: int, lr: float, seed: int) -> dict[str, float]:
    """Train on the upright pieces; shares of right answers, and how differently the mirror images are answered."""
    model = TetrisNetwork(name, Generator().manual_seed(seed))
    pieces, labels = torch.tensor(PIECES, dtype=torch.float32), torch.arange(len(PIECES))
    begin = time.perf_counter()
    fit(model, pieces, labels, loss=F.cross_entropy, epochs=epochs, batch_size=8, lr=lr, seed=seed, progress=False)
    seconds = time.perf_counter() - begin
    generator = Generator().manual_seed(seed + 1)
    rotations = SO(3).sample(100, generator=generator)
    reflections = -SO(3).sample(100, generator=generator)
    swapped = torch.cat([labels[:2].flip(0), labels[2:]])  # a mirror image of one is the other
    with torch.no_grad():
        answers = [model(torch.einsum("gij,pnj->gpni", g, pieces).flatten(0, 1)) for g in (rotations, reflections)]
        mirror = model(pieces[:2]).softmax(-1)
    right = [(a.argmax(-1).view(100, 8) == y).double() for a, y in zip(answers, (labels, swapped), strict=True)]
    return {
        "accuracy": float(right[0].mean()),
        "accuracy on the chiral pair": float(right[0][:, :2].mean()),
        "accuracy on reflections": float(right[1].mean()),
        "difference of the pair": float((mirror[0] - mirror[1]).abs().max()),
        "parameters": parameters(model),
        "seconds": seconds,
    }


def tetris_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about mirror images."""
    table = {row["rule"]: row for row in rows}
    blind = [name for name in TETRIS if name not in SEPARATES]
    return [
        Claim.exact(
            "tetris-odd-paths-suffice",
            "Share of wrong answers of CG and of the vector rule on all rotated pieces, the worse of the two.",
            measured=max(1 - table[name]["accuracy"] for name in SEPARATES),
            tol=0,
        ),
        Claim.exact(
            "tetris-no-odd-paths",
            "Largest difference between answers to the two mirror images, over the rules without odd paths.",
            measured=max(table[name]["difference of the pair"] for name in blind),
            tol=1e-4,
        ),
        Claim.ratio(
            "tetris-signals-confuse",
            "Accuracy of the Gaunt product on the mirror images, with true signals and with both kinds, the larger one.",
            measured=max(table[name]["accuracy on the chiral pair"] for name in TETRIS if name.startswith("gaunt")),
            at_most=0.65,
        ),
    ]


# --- 3. charged particles --------------------------------------------------------------------------------------------
AHEAD = 1.0
"""Time between the positions given and those asked for: 1000 steps of the simulator."""
N_BODY: dict[Rule, tuple[str, ...]] = {
    "cg": ("0e", "1o", "1e", "2e"),
    "gaunt": ("0e", "1o", "2e"),
    "vector": ("0e", "1o", "1e", "2e"),
}
SIZES: dict[Scale, dict[Rule, tuple[int, int]]] = {
    "smoke": {"cg": (4, 24), "gaunt": (3, 44), "vector": (2, 37)},
    "full": {"cg": (12, 32), "gaunt": (14, 45), "vector": (9, 41)},
}
"""Channels and radial neurons with which the numbers of parameters are equal within 1 %."""


class Forecast(nn.Module):
    """Positions ``[B, N, 3]`` after `AHEAD`: those of constant velocity, corrected by the network."""

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

    def forward(self, state: dict[str, Tensor]) -> Tensor:
        """From ``{"pos", "vel", "charges"}``."""
        pos, vel = state["pos"], state["vel"]
        # The factor lets training start close to constant velocity.
        return pos + AHEAD * vel + 0.1 * self.net(torch.cat([state["charges"], vel], -1), pos)


def particles(samples: tuple[int, int, int], seed: int) -> list[tuple[dict[str, Tensor], Tensor]]:
    """States of 5 charges and their positions after `AHEAD`, for training, validation and test."""
    generator = Generator().manual_seed(seed)
    data = [charged(n, steps=1000, record_every=1000, generator=generator, dtype=torch.float32) for n in samples]
    return [({"pos": d.pos[:, 0], "vel": d.vel[:, 0], "charges": d.charges}, d.pos[:, 1]) for d in data]


def inertia(samples: tuple[int, int, int], speed: float, seed: int) -> float:
    """Test error of moving on with `speed` times the velocity."""
    state, answer = particles(samples, seed)[2]
    return float(F.mse_loss(state["pos"] + AHEAD * speed * state["vel"], answer))


def forecast(
    rule: Rule, size: tuple[int, int], samples: tuple[int, int, int], epochs: int, seed: int
) -> tuple[float, Curve]:
    """Train on the first of three sets of samples, choose the epoch on the second; error on the third, and the curve."""
    train, validation, test = particles(samples, seed)
    model = Forecast(rule, *size, generator=Generator().manual_seed(seed))
    curve: Curve = []
    begin = time.perf_counter()

    def note(epoch: int, model: nn.Module, row: dict[str, float]) -> None:
        curve.append((time.perf_counter() - begin, row["validation_loss"]))

    fit(
        model,
        *train,
        loss=F.mse_loss,
        epochs=epochs,
        batch_size=50,
        lr=1e-2,
        clip=1.0,
        validation=validation,
        callbacks=[note],
        seed=seed,
        progress=False,
    )
    with torch.no_grad():
        return float(F.mse_loss(model(test[0]), test[1])), curve


def n_body_rows(scale: Scale, samples: tuple[int, int, int], epochs: int, seeds: Sequence[int]) -> list[Row]:
    """One row for each rule, and one for each guess without a model."""
    sizes = SIZES[scale]
    runs = {rule: [forecast(rule, sizes[rule], samples, epochs, seed) for seed in seeds] for rule in N_BODY}
    limits = [min(runs[rule][k][1][-1][0] for rule in N_BODY) for k in range(len(seeds))]
    rows: list[Row] = []
    for rule in N_BODY:
        errors, curves = zip(*runs[rule], strict=True)
        timely = [
            min(e for at, e in c if at <= limit or at == c[0][0]) for c, limit in zip(curves, limits, strict=True)
        ]
        rows.append(
            {
                "part": "n-body",
                "rule": rule,
                "mse": statistics.mean(errors),
                "spread": statistics.stdev(errors) if len(seeds) > 1 else None,
                "validation mse": statistics.mean(min(e for _, e in c) for c in curves),
                "validation mse at equal time": statistics.mean(timely),
                "seconds": statistics.mean(c[-1][0] for c in curves),
                "parameters": parameters(Forecast(rule, *sizes[rule])),
                "seeds": len(seeds),
            }
        )
    for name, speed in (("rest", 0.0), ("constant velocity", 1.0)):
        errors = [inertia(samples, speed, seed) for seed in seeds]
        rows.append({"part": "n-body", "rule": name, "mse": statistics.mean(errors), "parameters": 0})
    return rows


def n_body_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about forecasts."""
    table = {row["rule"]: row for row in rows}
    sizes = [table[rule]["parameters"] for rule in N_BODY]
    return [
        Claim.ratio(
            "n-body-equal-parameters",
            "Largest number of parameters of a network over the smallest.",
            measured=max(sizes) / min(sizes),
            at_most=1.05,
        ),
        Claim.ratio(
            "n-body-beats-inertia",
            "Test error of the worst rule over that of constant velocity.",
            measured=max(table[rule]["mse"] for rule in N_BODY) / table["constant velocity"]["mse"],
            at_most=1,
        ),
        Claim.ratio(
            "n-body-freedom-has-a-price",
            "Test error of the Gaunt product over that of CG with equally many parameters and epochs.",
            measured=table["gaunt"]["mse"] / table["cg"]["mse"],
            at_least=1,
        ),
    ]


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """The three parts; "full" has degrees up to 6 and three seeds."""
    full = scale == "full"
    degrees = range(1, 7 if full else 4)
    batch, repeats = (1000, 15) if full else (200, 7)
    seeds = [seed + k for k in range(3 if full else 1)]
    products = [
        product_row(name, setting, L, batch, repeats, seed)
        for setting in SETTINGS
        for L in degrees
        for name in PRODUCTS
    ]
    products += [product_row("cg", "MIMO", L, batch, repeats, seed, "all") for L in degrees if L in ALL_PATHS]
    pieces: list[Row] = []
    for name in TETRIS:
        runs = [tetris(name, *((150, 3e-3) if full else (40, 5e-3)), s) for s in seeds]
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        means["difference of the pair"] = max(run["difference of the pair"] for run in runs)
        pieces.append({"part": "tetris", "rule": name, **means, "seeds": len(seeds)})
    samples, epochs = ((1000, 200, 500), 15) if full else ((100, 50, 200), 10)
    forecasts = n_body_rows(scale, samples, epochs, seeds)
    claims = [*product_claims(products, degrees, seed), *tetris_claims(pieces), *n_body_claims(forecasts)]
    return Result([*products, *pieces, *forecasts], claims)


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Milliseconds per expressivity by degree, one curve for each product of all degrees with all degrees."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in result.rows:
        if row["part"] == "products" and row["setting"] == "MIMO" and row["outputs"] == "natural":
            curves.setdefault(row["rule"], []).append((row["L"], row["ms per expressivity"]))
    degrees = sorted({degree for curve in curves.values() for degree, _ in curve})
    return plots.line(curves, "largest degree L", "milliseconds per expressivity", logy=True, xticks=degrees)
