"""Initial representations: make any network on points invariant by what it is fed, not by how it is built.

Zhang, Wang, Zhang, Cui and Zhu (2021) replace the coordinates of points by ones that depend on their distances alone, found
by multidimensional scaling, and leave the network as it is. The new coordinates keep every distance, so nothing that an
invariant network could use is lost. They are principal-axis coordinates: both come from the same singular vectors, the
axes from a d x d problem, the scaling from an n x n one, and `InitialRepresentation` takes the former.

What the idea leaves open is the sign of every axis. Rules that look at one point ("the first entry is positive") depend on
the order of the points, and the sum of a centred column is always zero. Here odd moments decide, and where they vanish the
network is averaged over both signs. Equal eigenvalues leave a whole plane of axes open; that is reported, never hidden.

Re-measured here:

1. Exact properties of the representation, on random clouds.
2. Routes: shortest closed tours of random cities in the unit square, learned by imitating optimal tours (Held and Karp's
   exact dynamic programme) with a small attention model. Tested in place, and turned, moved and three times as large. The
   gap is the mean of length / optimal length - 1. Rows: the bare network; the same trained on instances moved as in the
   test, one to three times as large; sorted distances as features; `erlangen.symmetrize` with one canonical frame of
   rotations, shifts and scale, which notices mirror images; the initial representation; and the nearest unvisited city,
   without a network.
3. Solids: ten families of upright objects with random proportions, classified from points on their surfaces by a
   PointNet. Trained with turns about the vertical axis, tested so ("z") and after random rotations ("SO(3)").

All networks of a part have the same data, epochs and optimiser, and equally many parameters up to the features they read.
Each gets the better of two learning rates, by what it does on a fifth of the first seed's training data after a third of the
epochs on the rest.
The coordinates change with the sign of a moment: they are invariant, but not continuous where a moment vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen import plots
from erlangen.enforce import symmetrize
from erlangen.groups import SO, O, Similarity
from erlangen.nn import PointNet
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.symmetry import Symmetry
from erlangen.systems.points._representation import (
    EUCLIDEAN,
    InitialRepresentation,
    Invariance,
    Representation,
    Scaled,
    TinvNN,
    classical_mds,
)
from erlangen.systems.points._solids import solids
from erlangen.systems.points._tours import (
    Pointer,
    Router,
    SortedDistances,
    greedy_tours,
    imitation_loss,
    optimal_tours,
    rewrite_tours,
    tour_lengths,
)
from erlangen.training import fit

__all__ = [
    "EUCLIDEAN",
    "SYSTEM",
    "InitialRepresentation",
    "Invariance",
    "Representation",
    "Scaled",
    "TinvNN",
    "classical_mds",
    "experiment",
]

SYSTEM = System(
    title="Revisiting Transformation Invariant Geometric Deep Learning: Are Initial Representations All You Need?",
    authors=("Ziwei Zhang", "Xin Wang", "Zeyang Zhang", "Peng Cui", "Wenwu Zhu"),
    venue="arXiv",
    year=2021,
    arxiv="2112.12345",
    abstract_claims=(
        "Initial representations that keep distances and ignore transformations are enough to make a network invariant.",
        "Multidimensional scaling, modified, gives such representations for any network.",
        "The networks are strictly invariant to translation, rotation, reflection and scaling, with no other change to them.",
        "They work for point clouds and for combinatorial optimisation, and should be a baseline for both.",
    ),
)

Row = dict[str, Any]
RATES: dict[Scale, dict[str, tuple[float, ...]]] = {
    "smoke": {"routes": (1e-3,), "solids": (2e-3,)},  # too little training to choose
    "full": {"routes": (1e-3, 3e-3), "solids": (3e-3, 1e-3)},
}
"""Learning rates that each model of a part is tried with; of equals, the first."""
ALL: frozenset[Invariance] = frozenset({"translation", "rotation", "reflection", "scale"})


def randn(*size: int, seed: int) -> Tensor:
    """Standard normal numbers, float64."""
    return torch.randn(*size, generator=Generator().manual_seed(seed), dtype=torch.float64)


def moved(x: Tensor, generator: Generator | None, *, smallest: float = 3.0) -> Tensor:
    """Points ``[B, n, d]``, each sample turned or mirrored, enlarged `smallest` to 3 times, and moved by up to one unit."""
    d = x.shape[-1]
    scale = smallest + (3 - smallest) * torch.rand(len(x), 1, 1, generator=generator, dtype=torch.float64)
    turn = O(d).sample(len(x), generator=generator, dtype=torch.float64)
    shift = 2 * torch.rand(len(x), 1, d, generator=generator, dtype=torch.float64) - 1
    return (scale * x.double() @ turn.mT + shift).to(x.dtype)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest relative difference of two batches."""
    size = b.flatten(1).norm(dim=1)
    return float(((a.double() - b.double()).flatten(1).norm(dim=1) / size).max())


# --- 1. properties ---------------------------------------------------------------------------------------------------
def clouds(count: int, d: int, seed: int) -> Tensor:
    """Asymmetric clouds ``[count, 20, d]``, float64, with variances one apart."""
    x = randn(count, 20, d, seed=seed)
    return (x + 0.3 * (x.square() - 1)) * torch.arange(1, d + 1).sqrt()


def pairwise(x: Tensor) -> Tensor:
    """Distances ``[B, n, n]``, without the cancellation of `torch.cdist`."""
    return (x[:, :, None] - x[:, None]).norm(dim=-1)


def property_errors(count: int, seed: int) -> dict[str, float]:
    """The errors that the exact claims bound, over `count` clouds."""
    x = clouds(count, 3, seed)
    distances, represent = pairwise(x), InitialRepresentation(3)
    H = represent(x).coordinates
    mds = classical_mds(distances, 3).coordinates
    order = torch.randperm(20, generator=Generator().manual_seed(seed))
    generator = Generator().manual_seed(seed)
    similar, chiral = InitialRepresentation(3, ALL), InitialRepresentation(3, {"translation", "rotation"})
    mirrored = x * torch.tensor([-1.0, 1.0, 1.0], dtype=x.dtype)
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    point_symmetric = torch.cat([x, -x], 1)
    return {
        "distances, float64": relative(pairwise(H), distances),
        "distances, float32": relative(pairwise(represent(x.float()).coordinates), pairwise(x.float())),
        "mds": relative(mds * (mds * H).sum(1, keepdim=True).sign(), H),
        "permutation": relative(represent(x[:, order]).coordinates, H[:, order]),
        "similarity, float64": relative(similar(moved(x, generator)).coordinates, similar(x).coordinates),
        "similarity, float32": relative(similar(moved(x.float(), generator)).coordinates, similar(x).coordinates),
        "mirror": relative(represent(mirrored).coordinates, H),
        "chirality": 1 / relative(chiral(x).coordinates, chiral(mirrored).coordinates),
        "ambiguous": _ambiguous_error(net, point_symmetric, generator),
        "idempotence": relative(represent(H).coordinates, H),
    }


def _ambiguous_error(net: nn.Module, x: Tensor, generator: Generator) -> float:
    """Error of the invariance where every moment vanishes, so that outputs are averages over signs."""
    model = TinvNN(net, 3, ALL)
    if not bool(model.represent(x).ambiguous.all()):
        return math.inf
    with torch.no_grad():
        return relative(model(moved(x, generator)), model(x))


def ambiguity_rows(seed: int) -> list[Row]:
    """How often axes and signs are hard to tell: 10 000 random sets of 12 cities, float32."""
    found = InitialRepresentation(2, ALL, on_degenerate="allow")(
        torch.rand(10_000, 12, 2, generator=Generator().manual_seed(seed))
    )
    shares = {
        "ambiguous signs": found.ambiguous.double().mean(),
        "relative gap below 1e-3": (found.gap < 1e-3).double().mean(),
        "relative gap below 1e-2": (found.gap < 1e-2).double().mean(),
    }
    return [{"part": "properties", "model": f"cities, {name}", "share": float(value)} for name, value in shares.items()]


def property_claims(errors: dict[str, float]) -> list[Claim]:
    """Claims about the representation."""
    statements: list[tuple[str, str, str, float]] = [
        ("distances-kept", "Relative error of the distances after the representation.", "distances, float64", 1e-12),
        ("distances-kept-float32", "The same in float32.", "distances, float32", 1e-5),
        ("mds-is-pca", "Difference between MDS of the distances and principal axes, up to signs.", "mds", 1e-8),
        ("permutation", "The representation of permuted points is permuted.", "permutation", 1e-10),
        ("invariant", "Change of H under 100 turns, mirrors, shifts and a scale.", "similarity, float64", 1e-10),
        ("invariant-float32", "The same in float32.", "similarity, float32", 1e-5),
        ("mirror-images-agree", "Difference of H between mirror images, reflections among the invariances.", "mirror", 1e-10),
        ("mirror-images-differ", "Inverse of that difference with reflections left out.", "chirality", 100.0),
        ("ambiguous-averaged", "Change of a network's output where every sign is ambiguous.", "ambiguous", 1e-10),
        ("idempotent", "Difference between H(H(X)) and H(X).", "idempotence", 1e-10),
    ]  # fmt: skip
    return [Claim.exact(name, text, measured=errors[key], tol=tol) for name, text, key, tol in statements]


# --- 2. routes -------------------------------------------------------------------------------------------------------
def route_models(cities: int) -> dict[str, Callable[[], nn.Module]]:
    """Makers of the models of cities and a tour."""
    similar = Symmetry(Similarity(2), input="points", output="invariant")
    return {
        "plain": lambda: Pointer(2),
        "augmented": lambda: Pointer(2),
        "sorted distances": lambda: SortedDistances(Pointer(cities - 1)),
        "symmetrize, canonical": lambda: symmetrize(Pointer(2), similar, how="canonical", on_degenerate="allow"),
        "TinvNN": lambda: TinvNN(Pointer(2), 2, ALL, on_degenerate="allow"),
    }


def rewritten(x: dict[str, Tensor], y: Tensor, *, generator: Generator) -> tuple[dict[str, Tensor], Tensor]:
    """The same tours from other starts; a transform for `fit`."""
    tour = rewrite_tours(y, generator)
    return {**x, "tour": tour}, tour


def rewritten_and_moved(x: dict[str, Tensor], y: Tensor, *, generator: Generator) -> tuple[dict[str, Tensor], Tensor]:
    """As `rewritten`, with cities moved as in the test, and enlarged up to as much."""
    x, tour = rewritten(x, y, generator=generator)
    return {**x, "pos": moved(x["pos"], generator, smallest=1.0)}, tour


def mean_gap(pos: Tensor, tours: Tensor, best: Tensor) -> float:
    """Mean of length / optimal length - 1."""
    return float((tour_lengths(pos, tours) / tour_lengths(pos, best) - 1).mean())


def learned_router(name: str, pos: Tensor, tours: Tensor, epochs: int, lr: float, seed: int) -> Router:
    """A model that has learned to imitate optimal tours."""
    torch.manual_seed(seed)
    model = Router(route_models(pos.shape[1])[name]())
    fit(
        model,
        {"pos": pos, "tour": tours},
        tours,
        loss=imitation_loss,
        epochs=epochs,
        batch_size=100,
        optimizer=lambda p: torch.optim.AdamW(p, lr=lr),
        transform=rewritten_and_moved if name == "augmented" else rewritten,
        clip=1.0,
        seed=seed,
        progress=False,
    )
    return model.double()


def route_rate(name: str, data: tuple[Tensor, ...], epochs: int, rates: Sequence[float], seed: int) -> float:
    """The learning rate with the smallest gap on a fifth of the instances, after a third of the epochs on the others."""
    pos, tours, _, _ = data
    cut = 4 * len(pos) // 5
    held = pos[cut:].double()

    def gap(lr: float) -> float:
        model = learned_router(name, pos[:cut], tours[:cut], max(1, epochs // 3), lr, seed)
        return mean_gap(held, greedy_tours(model, held), tours[cut:])

    return min(rates, key=gap) if len(rates) > 1 else rates[0]


def route(name: str, data: tuple[Tensor, ...], epochs: int, lr: float, seed: int) -> Row:
    """Train one model and measure its gaps in place and moved, float64."""
    pos, tours, test, best = data
    model = learned_router(name, pos, tours, epochs, lr, seed)
    test = test.double()
    elsewhere = moved(test, Generator().manual_seed(seed + 1))
    return {
        "gap": mean_gap(test, greedy_tours(model, test), best),
        "gap, moved": mean_gap(elsewhere, greedy_tours(model, elsewhere), best),
        "parameters": sum(p.numel() for p in model.parameters()),
        "learning rate": f"{lr:g}",
        "epochs": epochs,
        "samples": len(pos),
    }


def nearest_tours(pos: Tensor) -> Tensor:
    """Tours ``[B, n]`` from city 0, always to the nearest city not yet visited."""
    D = pairwise(pos)
    tours = torch.zeros(pos.shape[:2], dtype=torch.long)
    for place in range(1, pos.shape[1]):
        row = D.gather(1, tours[:, place - 1, None, None].expand(-1, 1, D.shape[-1]))[:, 0]
        tours[:, place] = row.scatter(1, tours[:, :place], torch.inf).argmin(-1)
    return tours


def route_rows(
    cities: int, samples: tuple[int, int], epochs: int, rates: Sequence[float], seeds: Sequence[int]
) -> list[Row]:
    """One row for each model, means over seeds; every seed has its own instances."""
    sets: list[tuple[Tensor, ...]] = []
    for seed in seeds:
        pos = torch.rand(sum(samples), cities, 2, generator=Generator().manual_seed(seed))
        tours = optimal_tours(pos)
        sets.append((pos[: samples[0]], tours[: samples[0]], pos[samples[0] :], tours[samples[0] :]))
    rows: list[Row] = []
    for name in route_models(cities):
        lr = route_rate(name, sets[0], epochs, rates, seeds[0])
        runs = [route(name, data, epochs, lr, seed) for data, seed in zip(sets, seeds, strict=True)]
        rows.append(averaged(runs, part="routes", model=name))
    nearest = [{"gap": mean_gap(test, nearest_tours(test), best), "parameters": 0} for _, _, test, best in sets]
    return [*rows, averaged(nearest, part="routes", model="nearest city")]


def route_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about routes."""
    table = {row["model"]: row for row in rows}
    ours = table["TinvNN"]
    return [
        Claim.exact(
            "routes-unmoved",
            "Difference between the gaps of TinvNN in place and moved, mean over seeds.",
            measured=abs(ours["gap"] - ours["gap, moved"]),
            tol=1e-6,
        ),
        Claim.ratio(
            "routes-beat-plain-moved",
            "Gap of TinvNN over that of the bare network, on moved instances.",
            measured=ours["gap, moved"] / table["plain"]["gap, moved"],
            at_most=0.5,
        ),
        Claim.ratio(
            "routes-beat-augmented-moved",
            "Gap of TinvNN over that of the network trained on moved instances, on moved instances.",
            measured=ours["gap, moved"] / table["augmented"]["gap, moved"],
            at_most=1,
        ),
        Claim.ratio(
            "routes-beat-distances",
            "Gap of TinvNN over that of sorted distances, which forget directions.",
            measured=ours["gap"] / table["sorted distances"]["gap"],
            at_most=1,
        ),
    ]


# --- 3. solids -------------------------------------------------------------------------------------------------------
def classifier() -> PointNet:
    """Logits of ten classes ``[B, 10]`` of points ``[B, n, 3]``."""
    return PointNet(3, 10)


RIGID = Symmetry("E(3)", input="points", output="invariant")
SOLIDS: dict[str, Callable[[], nn.Module]] = {
    "plain": classifier,
    "augmented": classifier,
    "symmetrize, canonical": lambda: symmetrize(classifier(), RIGID, how="canonical", on_degenerate="allow"),
    "symmetrize, frames": lambda: symmetrize(classifier(), RIGID, how="frames", samples=1, on_degenerate="allow"),
    "TinvNN": lambda: TinvNN(classifier(), 3, ALL, on_degenerate="allow"),
}


def rotated(x: Tensor, generator: Generator | None) -> Tensor:
    """Clouds ``[B, n, 3]``, each turned by its own random rotation."""
    return x @ SO(3).sample(len(x), generator=generator, dtype=x.dtype).mT


def turned(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Clouds turned about the vertical axis; a transform for `fit`."""
    turn = torch.eye(3, dtype=x.dtype).repeat(len(x), 1, 1)
    turn[:, :2, :2] = SO(2).sample(len(x), generator=generator, dtype=x.dtype)
    return x @ turn.mT, y


def learned_classifier(name: str, x: Tensor, y: Tensor, epochs: int, lr: float, seed: int) -> nn.Module:
    """A trained classifier."""
    torch.manual_seed(seed)
    model = SOLIDS[name]()
    fit(
        model,
        x,
        y,
        loss=cross_entropy,
        epochs=epochs,
        batch_size=50,
        lr=lr,
        transform=(lambda x, y, generator: (rotated(x, generator), y)) if name == "augmented" else turned,
        seed=seed,
        progress=False,
    )
    return model


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Percent of right answers."""
    return 100 * float(torch.cat([model(part).argmax(-1) for part in x.split(100)]).eq(y).double().mean())


def solid_rows(
    samples: tuple[int, int], points: int, epochs: int, rates: Sequence[float], seeds: Sequence[int]
) -> list[Row]:
    """One row for each model, means over seeds; every seed has its own solids."""
    sets = [solids(sum(samples), points, generator=Generator().manual_seed(seed)) for seed in seeds]
    rows: list[Row] = []
    for name in SOLIDS:
        lr = solid_rate(name, sets[0][0][: samples[0]], sets[0][1][: samples[0]], epochs, rates, seeds[0])
        runs = [solid(name, data, samples[0], epochs, lr, seed) for data, seed in zip(sets, seeds, strict=True)]
        rows.append(averaged(runs, part="solids", model=name))
    return rows


def solid_rate(name: str, x: Tensor, y: Tensor, epochs: int, rates: Sequence[float], seed: int) -> float:
    """The learning rate with the best accuracy on a fifth of the solids, after a third of the epochs on the others."""
    cut = 4 * len(x) // 5

    def score(lr: float) -> float:
        model = learned_classifier(name, x[:cut], y[:cut], max(1, epochs // 3), lr, seed)
        return accuracy(model, x[cut:], y[cut:])

    return max(rates, key=score) if len(rates) > 1 else rates[0]


def solid(name: str, data: tuple[Tensor, Tensor], samples: int, epochs: int, lr: float, seed: int) -> Row:
    """Train one classifier; accuracies in percent."""
    x, y = data
    model = learned_classifier(name, x[:samples], y[:samples], epochs, lr, seed)
    test, labels = x[samples:], y[samples:]
    return {
        "accuracy, z": accuracy(model, test, labels),
        "accuracy, SO(3)": accuracy(model, rotated(test, Generator().manual_seed(seed + 1)), labels),
        "parameters": sum(p.numel() for p in model.parameters()),
        "learning rate": f"{lr:g}",
        "epochs": epochs,
        "samples": samples,
    }


def solid_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about solids."""
    table = {row["model"]: row for row in rows}

    def drop(name: str) -> float:
        return table[name]["accuracy, z"] - table[name]["accuracy, SO(3)"]

    return [
        Claim.exact(
            "solids-unmoved",
            "Points of accuracy that TinvNN differs by between upright and rotated solids.",
            measured=abs(drop("TinvNN")),
            tol=2,
        ),
        Claim.ratio(
            "solids-plain-drops",
            "Points of accuracy that the bare network loses on rotated solids, over 20.",
            measured=drop("plain") / 20,
            at_least=1,
        ),
        Claim.ratio(
            "solids-beat-plain-rotated",
            "Accuracy of TinvNN over that of the bare network, on rotated solids.",
            measured=table["TinvNN"]["accuracy, SO(3)"] / table["plain"]["accuracy, SO(3)"],
            at_least=1,
        ),
        Claim.ratio(
            "solids-beat-augmented-rotated",
            "Accuracy of TinvNN over that of the network trained on rotated solids, on rotated solids.",
            measured=table["TinvNN"]["accuracy, SO(3)"] / table["augmented"]["accuracy, SO(3)"],
            at_least=1,
        ),
        Claim.not_measurable(
            "published-benchmarks",
            "Networks on initial representations match or beat invariant ones on public point clouds and vehicle routing.",
            published="reported for point-cloud analysis, travelling salesman and capacitated vehicle routing",
            reason="needs the paper's data sets and days of reinforcement learning on a GPU; small versions are above",
        ),
    ]


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """The three parts; "full" has three seeds."""
    full = scale == "full"
    seeds = [seed + k for k in range(3 if full else 1)]
    errors = property_errors(100, seed)
    properties: list[Row] = [{"part": "properties", "model": name, "error": error} for name, error in errors.items()]
    properties += ambiguity_rows(seed)
    routes = route_rows(*((12, (3000, 1000), 10) if full else (8, (300, 100), 3)), RATES[scale]["routes"], seeds)
    sizes = ((1000, 500), 128, 20) if full else ((200, 100), 64, 8)
    shapes = solid_rows(*sizes, RATES[scale]["solids"], seeds)
    claims = [*property_claims(errors), *route_claims(routes), *solid_claims(shapes)]
    return Result([*properties, *routes, *shapes], claims)


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """How much longer than optimal the routes of each model are, in place and on moved cities."""
    rows = {row["model"]: row for row in result.rows if row["part"] == "routes"}
    gaps = {
        label: [row.get(key) for row in rows.values()] for label, key in (("in place", "gap"), ("moved", "gap, moved"))
    }
    return plots.barh(gaps, list(rows), "mean of length / optimal length - 1")
