"""What is measured of initial representations: properties, tours, solids, and how stable the axes are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.enforce import symmetrize
from erlangen.geometry import optimal_tours, rewrite_tours, tour_lengths
from erlangen.groups import SO, O, Similarity
from erlangen.measure import accuracy, relative_change
from erlangen.nn import Pointer, PointNet
from erlangen.simulate import solids
from erlangen.survey import (
    Claim,
    Part,
    Result,
    Rival,
    Run,
    Sizes,
    Split,
    Training,
    bound,
    compare,
    exact,
    properties,
    sweep,
)
from erlangen.symmetry import Symmetry
from erlangen.systems.points.tinvnn.method import InitialRepresentation, Invariance, TinvNN, classical_mds
from erlangen.systems.points.tinvnn.rivals import Router, greedy_tours, imitation_loss, nearest_tours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL: frozenset[Invariance] = frozenset({"translation", "rotation", "reflection", "scale"})
LOOSE: dict[str, Any] = {"on_degenerate": "allow"}
WORDS = {
    "plain": "bare network",
    "augmented": "network trained on moved samples",
    "augmented, 4 times as long": "network trained on moved samples for four times the epochs",
}
"""What statements call the rivals."""


@dataclass(frozen=True)
class Budget:
    """What a run spends."""

    seeds: int
    cities: int
    tours: Sizes
    tour_epochs: int
    points: int
    solids: Sizes
    solid_epochs: int
    width: int = 64


BUDGETS = {
    "smoke": Budget(1, 8, Sizes(300, 50, 100), 3, 64, Sizes(200, 50, 100), 8),
    "full": Budget(3, 12, Sizes(3000, 500, 1000), 20, 128, Sizes(1000, 300, 500), 40),
    "paper": Budget(5, 14, Sizes(100_000, 1000, 10_000), 100, 1024, Sizes(9843, 1000, 2468), 250, 128),
}


# --- properties ------------------------------------------------------------------------------------------------------
def clouds(run: Run[Any], dtype: torch.dtype = torch.float64, d: int = 3, count: int = 100) -> Tensor:
    """Asymmetric clouds ``[count, 20, d]`` with variances one apart."""
    x = torch.randn(count, 20, d, generator=run.generator(), dtype=torch.float64)
    return ((x + 0.3 * (x.square() - 1)) * torch.arange(1, d + 1).sqrt()).to(dtype)


def pairwise(x: Tensor) -> Tensor:
    """Distances ``[B, n, n]``, without the cancellation of `torch.cdist`."""
    return (x[:, :, None] - x[:, None]).norm(dim=-1)


def moved(x: Tensor, generator: Generator | None, *, smallest: float = 3.0) -> Tensor:
    """Points ``[B, n, d]``, each sample turned or mirrored, enlarged `smallest` to 3 times, and moved by up to one unit."""
    d = x.shape[-1]
    scale = smallest + (3 - smallest) * torch.rand(len(x), 1, 1, generator=generator, dtype=torch.float64)
    turn = O(d).sample(len(x), generator=generator, dtype=torch.float64)
    shift = 2 * torch.rand(len(x), 1, d, generator=generator, dtype=torch.float64) - 1
    return (scale.to(x.device) * x.double() @ turn.mT.to(x.device) + shift.to(x.device)).to(x.dtype)


def mirrored(x: Tensor) -> Tensor:
    """The other hand of clouds."""
    return x * torch.tensor([-1.0, 1.0, 1.0], dtype=x.dtype)


@exact(tol=1e-12, float32=1e-5)
def distances_kept(run: Run[Any], dtype: torch.dtype) -> float:
    """Relative error of the distances after the representation."""
    x = clouds(run, dtype)
    return relative_change(pairwise(InitialRepresentation(3)(x).coordinates), pairwise(x))


@exact(tol=1e-8)
def mds_is_pca(run: Run[Any]) -> float:
    """Difference between multidimensional scaling of the distances and principal axes, up to the signs of axes."""
    x = clouds(run)
    H, mds = InitialRepresentation(3)(x).coordinates, classical_mds(pairwise(x), 3).coordinates
    return relative_change(mds * (mds * H).sum(1, keepdim=True).sign(), H)


@exact(tol=1e-10)
def permutation(run: Run[Any]) -> float:
    """Difference between the representation of permuted points and the permuted representation."""
    x, order = clouds(run), torch.randperm(20, generator=run.generator())
    represent = InitialRepresentation(3)
    return relative_change(represent(x[:, order]).coordinates, represent(x).coordinates[:, order])


@exact(tol=1e-10, float32=1e-5)
def invariant(run: Run[Any], dtype: torch.dtype) -> float:
    """Change of the representation under 100 turns, mirrors, shifts and a scale, all four being ignored."""
    x, represent = clouds(run, dtype), InitialRepresentation(3, ALL)
    return relative_change(represent(moved(x, run.generator())).coordinates, represent(x).coordinates)


@exact(tol=1e-10)
def mirror_images_agree(run: Run[Any]) -> float:
    """Difference between the representations of mirror images, where reflections are ignored."""
    x, represent = clouds(run), InitialRepresentation(3)
    return relative_change(represent(mirrored(x)).coordinates, represent(x).coordinates)


@bound(at_least=0.01)
def mirror_images_differ(run: Run[Any]) -> float:
    """Relative difference between the representations of mirror images, where reflections are not ignored."""
    x, represent = clouds(run), InitialRepresentation(3, {"translation", "rotation"})
    return relative_change(represent(x).coordinates, represent(mirrored(x)).coordinates)


@exact(tol=1e-10)
def ambiguous_averaged(run: Run[Any]) -> float:
    """Change of a network's output under motions of point-symmetric clouds, whose axes all have an ambiguous sign."""
    half = clouds(run)
    x = torch.cat([half, -half], 1)
    model = TinvNN(nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).double(), 3, ALL)
    if not bool(model.represent(x).ambiguous.all()):
        return torch.inf
    with torch.no_grad():
        return relative_change(model(moved(x, run.generator())), model(x))


@exact(tol=1e-10)
def idempotent(run: Run[Any]) -> float:
    """Difference between the representation of a representation and the representation itself."""
    represent = InitialRepresentation(3)
    H = represent(clouds(run)).coordinates
    return relative_change(represent(H).coordinates, H)


PROPERTIES = (
    distances_kept,
    mds_is_pca,
    permutation,
    invariant,
    mirror_images_agree,
    mirror_images_differ,
    ambiguous_averaged,
    idempotent,
)


# --- tours -----------------------------------------------------------------------------------------------------------
def rewritten(
    x: dict[str, Tensor], y: Tensor, *, generator: Generator, smallest: float | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The same tours from other starts; with `smallest`, cities moved as in the test and enlarged `smallest` to 3 times."""
    tour = rewrite_tours(y, generator)
    pos = x["pos"] if smallest is None else moved(x["pos"], generator, smallest=smallest)
    return {"pos": pos, "tour": tour}, tour


def routes_part(run: Run[Budget]) -> Part:
    """Shortest closed tours of random cities, learned by imitation, on cities in place and moved."""
    budget = run.budget
    net = partial(Pointer, 2, budget.width)
    similar = Symmetry(Similarity(2), input="points", output="invariant")
    anywhere = partial(rewritten, smallest=1.0)
    rivals = {
        "plain": Rival(lambda: Router(net()), rewritten),
        "augmented": Rival(lambda: Router(net()), anywhere),
        "augmented, 4 times as long": Rival(lambda: Router(net()), anywhere, longer=4),
        "symmetrize, canonical": Rival(lambda: Router(symmetrize(net(), similar, how="canonical", **LOOSE)), rewritten),
        "TinvNN": Rival(lambda: Router(TinvNN(net(), 2, ALL, **LOOSE)), rewritten),
        "nearest city": Rival(lambda: nearest_tours, trains=False),
    }

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.tours)
        pos = torch.rand(sizes.total, budget.cities, 2, generator=Generator().manual_seed(seed))
        tours = optimal_tours(pos)
        return Split.of({"pos": pos, "tour": tours}, tours, sizes)

    def gap(model: Any, pos: Tensor, best: Tensor) -> float:
        tours = greedy_tours(model, pos) if isinstance(model, nn.Module) else model(pos)
        return float((tour_lengths(pos, tours) / tour_lengths(pos, best) - 1).mean())

    def measure(model: Any, x: dict[str, Tensor], best: Tensor, generator: Generator) -> Mapping[str, float]:
        """Gaps to the optimal length in float64, where the exact models can show that they are."""
        model = copy.deepcopy(model).double() if isinstance(model, nn.Module) else model
        pos = x["pos"].double()
        return {"gap": gap(model, pos, best), "gap, moved": gap(model, moved(pos, generator), best)}

    how = Training(imitation_loss, budget.tour_epochs, 100, rates=(1e-3, 3e-3), clip=1.0)
    table = compare("routes", rivals, draw, how, measure, best="gap", run=run)
    ours = table["TinvNN", "gap"], table["TinvNN", "gap, moved"]

    def ahead(name: str, rival: str) -> Claim:
        words = f"Excess over the shortest length of tours through moved cities, TinvNN over the {WORDS[rival]}."
        return table.beats(name, "TinvNN", rival, "gap, moved", statement=words)

    return table.part(
        table.same(
            "routes-unmoved",
            "Largest difference between the excess lengths of TinvNN's tours through cities in place and moved.",
            *ours,
            tol=1e-6,
        ),
        ahead("routes-beat-plain-moved", "plain"),
        ahead("routes-beat-augmented-moved", "augmented"),
        ahead("routes-beat-longer-augmented-moved", "augmented, 4 times as long"),
    )


# --- solids ----------------------------------------------------------------------------------------------------------
def rotated(x: Tensor, generator: Generator | None) -> Tensor:
    """Clouds ``[B, n, 3]``, each turned by its own random rotation."""
    return x @ SO(3).sample(len(x), generator=generator, dtype=x.dtype).mT.to(x.device)


def turned(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Clouds turned about the vertical axis."""
    turn = torch.eye(3, dtype=x.dtype).repeat(len(x), 1, 1)
    turn[:, :2, :2] = SO(2).sample(len(x), generator=generator, dtype=x.dtype)
    return x @ turn.mT, y


def solids_part(run: Run[Budget]) -> Part:
    """Ten families of upright solids, trained with turns about the vertical, tested so ("z") and after any rotation."""
    budget = run.budget
    net, rigid = partial(PointNet, 3, 10), Symmetry("E(3)", input="points", output="invariant")

    def anyhow(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        return rotated(x, generator), y

    rivals = {
        "plain": Rival(net, turned),
        "augmented": Rival(net, anyhow),
        "augmented, 4 times as long": Rival(net, anyhow, longer=4),
        "symmetrize, canonical": Rival(lambda: symmetrize(net(), rigid, how="canonical", **LOOSE), turned),
        "symmetrize, frames": Rival(lambda: symmetrize(net(), rigid, how="frames", samples=1, **LOOSE), turned),
        "TinvNN": Rival(lambda: TinvNN(net(), 3, ALL, **LOOSE), turned),
    }

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.solids)
        return Split.of(*solids(sizes.total, budget.points, generator=Generator().manual_seed(seed)), sizes)

    def measure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {
            "accuracy, z": accuracy(model, x, y),
            "accuracy, SO(3)": accuracy(model, rotated(x, generator), y),
        }

    how = Training(cross_entropy, budget.solid_epochs, 50, rates=(3e-3, 1e-3))
    table = compare("solids", rivals, draw, how, measure, best="accuracy, z", run=run)
    ours = table["TinvNN", "accuracy, z"], table["TinvNN", "accuracy, SO(3)"]
    lost = table["plain", "accuracy, z"] - table["plain", "accuracy, SO(3)"]

    def ahead(name: str, rival: str) -> Claim:
        words = f"Accuracy on rotated solids, TinvNN over the {WORDS[rival]}."
        return table.beats(name, "TinvNN", rival, "accuracy, SO(3)", statement=words)

    return table.part(
        table.same("solids-unmoved", "Largest difference of TinvNN's accuracy on upright and rotated solids.", *ours, tol=0),
        table.bound("solids-plain-drops", "Points of accuracy that the bare network loses on rotated solids.", lost, at_least=20),
        ahead("solids-beat-plain-rotated", "plain"),
        ahead("solids-beat-augmented-rotated", "augmented"),
        ahead("solids-beat-longer-augmented-rotated", "augmented, 4 times as long"),
    )  # fmt: skip


# --- stability -------------------------------------------------------------------------------------------------------
def stability_part(run: Run[Budget]) -> Part:
    """How often a solid gets other axes when its surface is sampled anew: what invariance does not promise."""

    def changed(seed: int, *, signs: bool) -> dict[str, float]:
        """Share of solids whose axes turn by more than 30 degrees, or flip, from one half of the points to the other."""
        count = run.sizes(run.budget.solids).test
        x, _ = solids(count, 2 * run.budget.points, generator=Generator().manual_seed(seed))
        represent = InitialRepresentation(3, ALL, on_degenerate="allow")
        first, second = (represent(half).axes for half in (x[:, ::2], x[:, 1::2]))
        cosines = (first * second).sum(1)  # of every axis with itself
        cosines = cosines if signs else cosines.abs()
        return {"share of solids": float((cosines.amin(-1) < 0.75**0.5).double().mean())}

    methods = {"axes": partial(changed, signs=False), "axes and signs": partial(changed, signs=True)}
    return sweep("resampled", methods, run=run).part()


def ambiguity_part(run: Run[Any]) -> Part:
    """How often signs and axes are hard to tell: 10 000 random sets of 12 cities, float32."""
    cities = torch.rand(10_000, 12, 2, generator=run.generator())
    found = InitialRepresentation(2, ALL, on_degenerate="allow")(cities)
    shares = {
        "ambiguous signs": found.ambiguous.double().mean(),
        "relative gap below 1e-3": (found.gap < 1e-3).double().mean(),
        "relative gap below 1e-2": (found.gap < 1e-2).double().mean(),
    }
    return Part([{"part": "ambiguous", "cities": what, "share": float(share)} for what, share in shares.items()])


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, tours, solids, and how stable the axes are."""
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "Networks on initial representations match or beat invariant ones on public point clouds and vehicle routing.",
        published="reported for point-cloud analysis, travelling salesman and capacitated vehicle routing",
        reason="needs the paper's data sets and days of reinforcement learning on a GPU; small versions are above",
    )
    shown = (stability_part(run), ambiguity_part(run))
    return Result.of(
        properties(run, *PROPERTIES), routes_part(run), solids_part(run), *shown, Part(claims=[unmeasured])
    )


def figure(result: Result) -> Figure:
    """How much longer than optimal the routes of each model are, in place and on moved cities."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "routes"]
    series = {"in place": [row["gap"] for row in rows], "moved": [row["gap, moved"] for row in rows]}
    return plots.barh(series, [row["model"] for row in rows], "mean of length / optimal length - 1")
