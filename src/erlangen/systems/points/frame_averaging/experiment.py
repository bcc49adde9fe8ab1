"""What is measured of frame averaging: exactness, charged particles, pairs of graphs, normals of surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.enforce import symmetrize
from erlangen.groups import SE, SO, E, O
from erlangen.measure import equivariance_error
from erlangen.nn import EGNN, CentredMover, MessagePassing, PointNet, SpeedEGNN
from erlangen.simulate import charges_ahead, drifted, surfaces
from erlangen.soft import augment
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
    number,
    properties,
)
from erlangen.symmetry import Symmetry
from erlangen.systems.points.frame_averaging.method import BODIES, NORMALS, FrameGNN, Lines, LocalFrames
from erlangen.systems.points.frame_averaging.rivals import Family, RandomTurns, separation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOTIONS = Symmetry(E(3), input=BODIES, output="points")
"""Rotations, reflections and shifts move the particles, and the prediction of their places with them."""

SEVEN, EIGHT = Family("connected", 7), Family("connected", 8)
GRAPH8C = "0 of all pairs of connected graphs of 8 nodes (graph8c)"
REGULAR = Family("strongly regular", 16, 2), Family("strongly regular", 28, 2)


@dataclass(frozen=True)
class Budget:
    """What a run spends: charged systems, graphs, surfaces. Widths of networks of particles are multiples of three."""

    seeds: int
    charges: Sizes
    charge_epochs: int
    charge_batch: int
    families: tuple[Family, ...]
    surfaces: Sizes
    points: int
    surface_epochs: int
    width: int = 30
    layers: int = 3


BUDGETS = {
    "smoke": Budget(1, Sizes(96, 20, 60), 8, 32, (SEVEN, REGULAR[0]), Sizes(60, 20, 20), 64, 4),
    "full": Budget(3, Sizes(1000, 200, 1000), 60, 100, (SEVEN, EIGHT, *REGULAR), Sizes(400, 50, 100), 128, 20),
    "paper": Budget(
        5, Sizes(3000, 2000, 2000), 10_000, 100, (SEVEN, EIGHT, *REGULAR), Sizes(8000, 500, 1500), 512, 250, 60, 4
    ),
}


def plain_net(run: Run[Budget]) -> MessagePassing:
    """The network that all models of particles but EGNN share."""
    return MessagePassing(6, 3, run.budget.width, layers=run.budget.layers, edge_features=1)


# --- exactness --------------------------------------------------------------------------------------------------------
def few_charges(run: Run[Budget], dtype: torch.dtype) -> dict[str, Tensor]:
    """Ten systems."""
    return {key: value.to(dtype) for key, value in charges_ahead(10, run.seed)[0].items()}


def random_model(run: Run[Budget], group: E | SE, dtype: torch.dtype) -> FrameGNN:
    """The network of latent frames with random parameters."""
    torch.manual_seed(run.seed)
    return FrameGNN(plain_net(run), group, on_degenerate="allow").to(dtype).eval()


@exact(tol=1e-12, float32=1e-5)
def motions_exact(run: Run[Budget], dtype: torch.dtype) -> float:
    """Largest error of the network of latent frames, of E(3) or SE(3), under 100 motions, random parameters."""
    worst, data = 0.0, few_charges(run, dtype)
    g = E(3).sample(100, generator=run.generator(), dtype=torch.float64)
    turns, shifts = E(3).linear(g), 10 * E(3).translation(g)
    for group in (E(3), SE(3)):
        model = random_model(run, group, dtype)
        # Only systems whose own axes are apart: the rest turns with rounding.
        apart = {key: value[model.gaps(data) > 1e-3] for key, value in data.items()}
        proper = turns * torch.linalg.det(turns)[:, None, None]  # a reflection times -1 is a rotation
        elements = group.join(proper if isinstance(group, SE) else turns, shifts)
        worst = max(worst, float(equivariance_error(model, model.symmetry, apart, elements=elements, reduce="max")))
    return worst


@bound(at_least=1e-4)
def mirror_images_stay_apart(run: Run[Budget]) -> float:
    """Relative error of the network with SE(3) frames under a reflection, random parameters, mean of ten systems."""
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    mirror = E(3).join(flip, torch.zeros(3, dtype=torch.float64))[None]
    model, x = random_model(run, SE(3), torch.float64), few_charges(run, torch.float64)
    return float(equivariance_error(model, MOTIONS, x, elements=mirror, reduce="mean"))


# --- graphs -----------------------------------------------------------------------------------------------------------
def families(run: Run[Budget]) -> tuple[Family, ...]:
    """The graphs of a run; in a dry run the small ones."""
    return BUDGETS["smoke"].families if run.dry else run.budget.families


def left(run: Run[Budget], kind: str, model: str) -> int:
    """Pairs that a network does not separate."""
    rows = [separation(family, model, run.seed) for family in families(run) if family.kind == kind]
    return sum(row["pairs not separated"] for row in rows)


@number(0, published=GRAPH8C)
def fa_gin_id_separates(run: Run[Budget]) -> float:
    """Pairs of connected graphs of equal size that FA-GIN+ID with random parameters does not separate."""
    return left(run, "connected", "FA-GIN+ID")


@number(0, published=GRAPH8C)
def fa_mlp_separates(run: Run[Budget]) -> float:
    """Pairs of connected graphs of equal size that FA-MLP with random parameters does not separate."""
    return left(run, "connected", "FA-MLP")


@number(0)
def strongly_regular_separated(run: Run[Budget]) -> float:
    """Pairs of strongly regular graphs of one family that FA-GIN+ID does not separate."""
    return left(run, "strongly regular", "FA-GIN+ID")


@number(0)
def gin_fails_on_strongly_regular(run: Run[Budget]) -> float:
    """Pairs of strongly regular graphs of one family that GIN without frames separates."""
    rows = [separation(family, "GIN", run.seed) for family in families(run) if family.kind == "strongly regular"]
    return sum(row["pairs"] - row["pairs not separated"] for row in rows)


@exact(tol=1e-12)
def graphs_reordered(run: Run[Budget]) -> float:
    """Largest change of an averaged network's output when nodes are renumbered."""
    rows = [separation(family, model, run.seed) for family in families(run) for model in family.models]
    return max(row["reordering error"] for row in rows if row["model"] != "GIN")


@number(312)
def gin_is_colour_refinement(run: Run[Budget]) -> float:
    """Pairs of connected graphs of 8 nodes that GIN does not separate; colour refinement leaves 312."""
    return separation(EIGHT, "GIN", run.seed)["pairs not separated"]


PROPERTIES = (
    motions_exact,
    mirror_images_stay_apart,
    fa_gin_id_separates,
    fa_mlp_separates,
    strongly_regular_separated,
    gin_fails_on_strongly_regular,
    graphs_reordered,
    gin_is_colour_refinement,
)


def graphs_part(run: Run[Budget]) -> Part:
    """Rows of all families and networks; their claims are properties, since nothing is trained."""
    return Part([separation(family, model, run.seed) for family in families(run) for model in family.models])


# --- charged particles ------------------------------------------------------------------------------------------------
OURS, PLAIN, AUGMENTED = "FA-GNN, latent frames", "GNN", "GNN, augmented"
SAMPLED, EQUIVARIANT, STRAIGHT = "GNN, 8 random rotations", "EGNN", "particles keep their velocity"


def charge_rivals(run: Run[Budget]) -> dict[str, Rival]:
    """The models of particles."""
    net, width, layers = partial(plain_net, run), run.budget.width, run.budget.layers
    turned = augment(Symmetry(O(3), input=BODIES, output="points"))

    def sampled() -> nn.Module:
        return symmetrize(CentredMover(net()), MOTIONS, frame=RandomTurns(8), samples=8)

    def egnn() -> nn.Module:
        return SpeedEGNN(EGNN(1, 1, width - 4, layers=layers, edge_features=1, velocity=True))

    return {
        OURS: Rival(lambda: FrameGNN(net(), on_degenerate="allow")),
        PLAIN: Rival(lambda: CentredMover(net())),
        AUGMENTED: Rival(lambda: CentredMover(net()), turned),
        SAMPLED: Rival(sampled),
        EQUIVARIANT: Rival(egnn),
        "particles stay": Rival(lambda: partial(drifted, speed=0.0), trains=False),
        STRAIGHT: Rival(lambda: drifted, trains=False),
    }


def charges_part(run: Run[Budget]) -> Part:
    """Where five charged particles are ten frames later."""
    budget = run.budget

    def draw(seed: int) -> Split:
        sizes = run.sizes(budget.charges)
        return Split.of(*charges_ahead(sizes.total, seed), sizes)

    @torch.no_grad()
    def validate(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        return {"test mse": float(mse_loss(model(x), y))}

    def measure(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        row = dict(validate(model, x, y, generator))
        if isinstance(model, nn.Module):
            few, seed = {key: value[:20] for key, value in x.items()}, generator.initial_seed()
            row["equivariance error"] = float(
                equivariance_error(model, MOTIONS, few, elements=20, reduce="max", seed=seed)
            )
        return row

    how = Training(
        mse_loss,
        budget.charge_epochs,
        budget.charge_batch,
        rates=(3e-2, 1e-2),
        optimizer=torch.optim.Adam,
        decay=1e-12,
        clip=1.0,
    )
    table = compare("n-body", charge_rivals(run), draw, how, measure, best="test mse", run=run, validate=validate)
    error, gap = "test mse", "equivariance error"
    return table.part(
        table.same(
            "trained-exact",
            "Equivariance error of the trained network of latent frames, float32, worst of 20 test systems and 20 motions.",
            table[OURS, gap],
            0.0,
            tol=1e-5,
        ),
        table.bound(
            "plain-is-not-equivariant",
            "Equivariance error of the plain network after training, worst of 20 test systems and 20 motions.",
            table[PLAIN, gap],
            at_least=0.1,
        ),
        table.beats("learns", OURS, STRAIGHT, error, by=0.2),
        table.beats("beats-plain", OURS, PLAIN, error, by=0.75, published=0.0057 / 0.0107),
        table.beats("beats-augmented", OURS, AUGMENTED, error),
        table.beats("beats-sampled", OURS, SAMPLED, error),
        table.beats("beats-egnn", OURS, EQUIVARIANT, error, published=0.0057 / 0.0071),
    )


# --- normals ----------------------------------------------------------------------------------------------------------
def line_loss(projectors: Tensor, normals: Tensor) -> Tensor:
    """Mean over points, and over the elements of frames, of ``1 - cos^2`` of the angle between line and normal."""
    return 1 - ((projectors @ normals[..., None])[..., 0] * normals).sum(-1).mean()


def main_lines(projectors: Tensor) -> Tensor:
    """Unit vectors ``[..., 3]`` along the main axes of averaged projectors: the prediction."""
    return torch.linalg.eigh(projectors.double()).eigenvectors[..., -1].to(projectors)


def normals_part(run: Run[Budget]) -> Part:
    """Lines along the normals of surfaces: trained on upright ones, tested on upright and on rotated ones."""
    net, local = partial(PointNet, 3, 3, 24, per_point=True), partial(PointNet, 3, 3, 26)
    rivals = {
        "PointNet": Rival(lambda: Lines(net())),
        "PointNet, augmented": Rival(lambda: Lines(net()), augment(Symmetry(SO(3), input="points", output="vectors"))),
        "FA-PointNet": Rival(lambda: symmetrize(Lines(net()), NORMALS, samples=2, on_degenerate="allow")),
        "FA-local-PointNet": Rival(lambda: LocalFrames(local(), samples=1)),
    }
    upright, rotated = "1 - cos^2, I/I", "1 - cos^2, I/SO(3)"

    def draw(seed: int) -> Split:
        sizes = run.sizes(run.budget.surfaces)
        data = surfaces(sizes.total, run.budget.points, generator=Generator().manual_seed(seed))
        return Split.of(data.pos, data.normals, sizes)

    @torch.no_grad()
    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        found = main_lines(torch.cat([model(part) for part in x.split(20)]))
        return float(1 - (found * y).sum(-1).square().mean())

    def measure(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Mapping[str, float]:
        turns = SO(3).sample(len(x), generator=generator, dtype=x.dtype).mT.to(x.device)
        return {upright: error(model, x, y), rotated: error(model, x @ turns, y @ turns)}

    how = Training(line_loss, run.budget.surface_epochs, 20, rates=(3e-3, 1e-2), optimizer=torch.optim.Adam, clip=1.0)
    table = compare("normals", rivals, draw, how, measure, best=upright, run=run)
    framed = ("FA-PointNet", "FA-local-PointNet")
    still, moved = (np.concatenate([table[name, column] for name in framed]) for column in (upright, rotated))
    return table.part(
        table.same(
            "normals-do-not-notice-rotations",
            "Largest difference between the errors of framed networks on upright and on rotated surfaces.",
            still,
            moved,
            tol=1e-4,
        ),
        table.beats("normals-beat-plain-rotated", "FA-PointNet", "PointNet", rotated, by=0.75, published=0.163 / 0.449),
        table.beats("normals-beat-augmented-rotated", "FA-PointNet", "PointNet, augmented", rotated),
        table.beats(
            "local-frames-beat-global-ones", "FA-local-PointNet", "FA-PointNet", rotated, published=0.098 / 0.163
        ),
    )


# --- all --------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, then the three parts."""
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "Framed PointNet and DGCNN estimate normals of CAD models, and framed networks solve EXP and graph benchmarks.",
        published="ABC normals 0.163 (FA-PointNet) and 0.069 (FA-DGCNN), I/SO(3); EXP classified completely",
        reason="needs the ABC and EXP data sets and days on a GPU; analytic surfaces and lists of graphs are above",
    )
    parts = (properties(run, *PROPERTIES), charges_part(run), graphs_part(run), normals_part(run))
    return Result.of(*parts, Part(claims=[unmeasured]))


def figure(result: Result) -> Figure:
    """Test errors of the particle models beside their errors of symmetry."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "n-body" and "equivariance error" in row]
    names = [str(row["model"]) for row in rows]
    labels = {"test mse": "test error (mean square)", "equivariance error": "equivariance error (relative)"}
    drawn, axes = plots.panels(2)
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        plots.barh({label: [float(row[key]) for row in rows]}, names, label, log=True, ax=ax)
    return drawn
