"""What is measured of initial representations: properties, tours, solids, and how stable the axes are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from erlangen.enforce import symmetrize
from erlangen.geometry import optimal_tours, rewrite_tours, tour_lengths
from erlangen.groups import SO, O
from erlangen.measure import accuracy, relative_change
from erlangen.nn import Pointer, PointNet
from erlangen.simulate import machined_parts, mesh_clouds, solids
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
from erlangen.systems.points.tinvnn._steady import SteadyTinvNN, near_ties
from erlangen.systems.points.tinvnn.method import InitialRepresentation, Invariance, TinvNN, classical_mds
from erlangen.systems.points.tinvnn.rivals import Router, greedy_tours, imitation_loss, nearest_tours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL: frozenset[Invariance] = frozenset({"translation", "rotation", "reflection", "scale"})
LOOSE: dict[str, Any] = {"on_degenerate": "allow"}
WORDS = {
    "plain": "bare network",
    "augmented": "network trained on moved samples",
    "augmented, 6 times as long": "network trained on moved samples for six times the epochs",
    "TinvNN": "network on initial representations",
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
    anywhere = partial(rewritten, smallest=1.0)
    rivals = {
        "plain": Rival(lambda: Router(net()), rewritten),
        "augmented": Rival(lambda: Router(net()), anywhere),
        "augmented, 6 times as long": Rival(lambda: Router(net()), anywhere, longer=6),
        "TinvNN": Rival(lambda: Router(TinvNN(net(), 2, ALL, **LOOSE)), rewritten),
        "nearest city": Rival(lambda: nearest_tours, trains=False),
    }

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.tours)
        pos = torch.rand(sizes.total, budget.cities, 2, generator=Generator().manual_seed(100 + seed))
        tours = optimal_tours(pos)
        return Split.of({"pos": pos, "tour": tours}, tours, sizes)

    @cache
    def towns(count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Cities in three towns, as no network trained on, and their shortest tours."""
        g = Generator().manual_seed(seed)
        town = torch.rand(count, 3, 2, generator=g)[:, torch.arange(budget.cities) % 3]
        pos = town + 0.08 * torch.randn(count, budget.cities, 2, generator=g)
        return pos.double(), optimal_tours(pos)

    def gap(model: Any, pos: Tensor, best: Tensor) -> float:
        tours = greedy_tours(model, pos) if isinstance(model, nn.Module) else model(pos)
        return float((tour_lengths(pos, tours) / tour_lengths(pos, best) - 1).mean())

    def validate(model: Any, x: dict[str, Tensor], best: Tensor, generator: Generator) -> Mapping[str, float]:
        return {"gap": gap(model, x["pos"], best)}

    def measure(model: Any, x: dict[str, Tensor], best: Tensor, generator: Generator) -> Mapping[str, float]:
        """Gaps to the optimal length in float64, where the exact models can show that they are."""
        model = copy.deepcopy(model).double() if isinstance(model, nn.Module) else model
        pos = x["pos"].double()
        row = {"gap": gap(model, pos, best), "gap, moved": gap(model, moved(pos, generator), best)}
        clustered, tours = towns(len(pos), 10_000 + generator.initial_seed())
        return row | {"gap, towns, moved": gap(model, moved(clustered, generator).to(pos.device), tours.to(pos.device))}

    how = Training(imitation_loss, budget.tour_epochs, 100, rates=(1e-3, 3e-3), clip=1.0)
    table = compare("routes", rivals, draw, how, measure, best="gap", run=run, validate=validate)
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
        ahead("routes-beat-longer-augmented-moved", "augmented, 6 times as long"),
        table.beats("routes-beat-plain-in-towns", "TinvNN", "plain", "gap, towns, moved"),
        table.beats(
            "routes-beat-longer-augmented-in-towns", "TinvNN", "augmented, 6 times as long", "gap, towns, moved"
        ),
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


STEADY = "TinvNN, near ties averaged"


def normed(x: Tensor) -> Tensor:
    """Clouds ``[B, n, 3]`` without their mean, of root mean square radius 1."""
    x = x - x.mean(1, keepdim=True)
    return x / x.square().sum(-1).mean(1).sqrt()[:, None, None]


def solids_part(run: Run[Budget]) -> Part:
    """Ten families of upright solids, trained with turns about the vertical, tested so ("z") and after any rotation."""
    budget = run.budget
    net, rigid = partial(PointNet, 3, 10), Symmetry("E(3)", input="points", output="invariant")

    def anyhow(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        return rotated(x, generator), y

    rivals = {
        "plain": Rival(net, turned),
        "augmented": Rival(net, anyhow),
        "augmented, 6 times as long": Rival(net, anyhow, longer=6),
        "symmetrize, frames": Rival(lambda: symmetrize(net(), rigid, how="frames", samples=1, **LOOSE), turned),
        "TinvNN": Rival(lambda: TinvNN(net(), 3, ALL, **LOOSE), turned),
        STEADY: Rival(lambda: SteadyTinvNN(net(), ALL), turned),
    }

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.solids)
        # Each solid has twice the points: one half is what networks see, the other is the surface sampled anew.
        x, y = solids(sizes.total, 2 * budget.points, generator=Generator().manual_seed(100 + seed))
        return Split.of(torch.cat([normed(x[:, ::2]), normed(x[:, 1::2])], 1), y, sizes)

    def seen(x: Tensor) -> Tensor:
        return x[:, : budget.points]

    def validate(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {"accuracy, z": accuracy(model, seen(x), y)}

    @torch.no_grad()
    def measure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        found = rotated(x, generator)  # both halves by the same rotation
        first, again = (model(half).argmax(-1) for half in found.split(budget.points, 1))
        return {
            "accuracy, z": accuracy(model, seen(x), y),
            "accuracy, SO(3)": accuracy(model, seen(found), y),
            "changed by resampling, %": 100 * float((first != again).double().mean()),
        }

    def halved(act: Any) -> Any:
        """A transform of the half that networks are trained on."""

        def run(x: Tensor, y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
            return act(seen(x), y, generator=generator)

        return run

    rivals = {name: replace(rival, transform=halved(rival.transform)) for name, rival in rivals.items()}
    how = Training(cross_entropy, budget.solid_epochs, 50, rates=(3e-3, 1e-3))
    table = compare("solids", rivals, draw, how, measure, best="accuracy, z", run=run, validate=validate)
    ours = table["TinvNN", "accuracy, z"], table["TinvNN", "accuracy, SO(3)"]

    def ahead(name: str, rival: str) -> Claim:
        words = f"Accuracy on rotated solids, TinvNN over the {WORDS[rival]}."
        return table.beats(name, "TinvNN", rival, "accuracy, SO(3)", statement=words)

    return table.part(
        table.same("solids-unmoved", "Largest difference of TinvNN's accuracy on upright and rotated solids.", *ours, tol=0),
        table.ratio(
            "solids-plain-drops",
            "Accuracy of the bare network on rotated solids over that on upright ones.",
            table["plain", "accuracy, SO(3)"],
            table["plain", "accuracy, z"],
            below=1,
        ),
        ahead("solids-beat-plain-rotated", "plain"),
        ahead("solids-beat-augmented-rotated", "augmented"),
        ahead("solids-beat-longer-augmented-rotated", "augmented, 6 times as long"),
        table.beats(
            "near-ties-steady-answers",
            STEADY,
            "TinvNN",
            "changed by resampling, %",
            statement="Share of solids whose class changes with other points of their surface, near ties averaged over not.",
        ),
        table.not_worse(
            "near-ties-cost-nothing",
            STEADY,
            "TinvNN",
            "accuracy, SO(3)",
            statement="Accuracy on rotated solids, near ties averaged over not.",
        ),
    )  # fmt: skip


# --- stability -------------------------------------------------------------------------------------------------------
def stability_part(run: Run[Budget], meshes: str) -> Part:
    """How often a shape gets other axes when its surface is sampled anew: what invariance does not promise."""
    points = run.budget.points
    shapes: dict[str, Callable[[int, int], Tensor]] = {
        "solids": lambda count, seed: solids(count, 2 * points, generator=Generator().manual_seed(seed))[0],
        "machined parts": lambda count, seed: (
            machined_parts(count, 2 * points, generator=Generator().manual_seed(seed)).pos
        ),
    }
    if meshes:
        shapes["meshes"] = lambda count, seed: mesh_clouds(meshes, 2 * points, seed)[0]

    def changed(seed: int, *, kind: str) -> dict[str, float]:
        """Shares whose axes turn by more than 30 degrees, or flip, from one half of the points to the other."""
        x = shapes[kind](run.sizes(run.budget.solids).test, 100 + seed)
        represent = InitialRepresentation(3, ALL, on_degenerate="allow")
        first, second = (represent(half) for half in (x[:, ::2], x[:, 1::2]))
        cosines = (first.axes * second.axes).sum(1)  # of every axis with itself

        flipped, told = cosines.amin(-1) < 0.75**0.5, near_ties(first.coordinates)

        def share(chosen: Tensor) -> float:
            return float(chosen.double().mean()) if len(chosen) else math.nan

        return {
            "axes differ": share(cosines.abs().amin(-1) < 0.75**0.5),
            "axes or signs differ": share(flipped),
            "near ties": share(told),
            "differ, of those with near ties": share(flipped[told]),
            "differ, of the others": share(flipped[~told]),
        }

    table = sweep("resampled", {kind: partial(changed, kind=kind) for kind in shapes}, run=run)
    return table.part(
        table.ratio(
            "near-ties-tell",
            "Share of solids whose axes or signs change when their surface is sampled anew, without near ties over with them.",
            table["solids", "differ, of the others"],
            table["solids", "differ, of those with near ties"],
            below=1,
        )
    )


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
def experiment(run: Run[Budget], meshes: str = "") -> Result:
    """Properties, tours, solids, and how stable the axes are; with `meshes`, a folder of ``*.npz``, also on the meshes there."""
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "Networks on initial representations match or beat invariant ones on public point clouds and vehicle routing.",
        published="reported for point-cloud analysis, travelling salesman and capacitated vehicle routing",
        reason="needs the paper's data sets and days of reinforcement learning on a GPU; small versions are above",
    )
    shown = (stability_part(run, meshes), ambiguity_part(run))
    return Result.of(
        properties(run, *PROPERTIES), routes_part(run), solids_part(run), *shown, Part(claims=[unmeasured])
    )


def figure(result: Result) -> Figure:
    """How much longer than optimal the routes of each model are, in place and on moved cities."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "routes"]
    series = {"in place": [row["gap"] for row in rows], "moved": [row["gap, moved"] for row in rows]}
    return plots.barh(series, [row["model"] for row in rows], "mean of length / optimal length - 1")
