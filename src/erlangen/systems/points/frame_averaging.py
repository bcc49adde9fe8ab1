"""Frame averaging: any network becomes exactly symmetric, by an average over a few group elements that the input chooses.

Puny, Atzmon, Ben-Hamu, Misra, Grover, Smith and Lipman (2022) replace the average over a whole group, which is infinite for
rotations and huge for permutations, by one over a *frame*: a small set of elements that turns with the input. Principal axes
give 8 elements for motions of space, sorted nodes a few for permutations of a graph. The average is exact, and the network
inside may be any, so nothing that it can express is lost. The frames are part of the library (`erlangen.symmetrize`); what
is built here is the rest of the paper: `FrameGNN`, which turns its latent features back after every layer and frames them
anew, networks that know graph nodes by name, and frames of the neighbours of each point.

Re-measured here:

1. Charged particles: five charges, their places and velocities at frame 30, their places at frame 40. `FrameGNN` against the
   same message passing network plain, trained on rotated systems, and averaged over 8 random rotations, and against `EGNN`.
   All have the same data, epochs, batches, width and depth and about equally many parameters. Each one's learning rate is
   chosen between the same two, by short trainings on the first seed's data and an error on separate validation data; it
   falls to zero along a cosine. The plain networks get centred coordinates and predict how far particles move, so that they
   need not learn shifts. The paper does not compare with training on rotated systems, a strong rival where data are few,
   though only nearly equivariant.
2. Graphs: which pairs of connected graphs of 7 and of 8 nodes do networks with random parameters separate, exactly: all
   elements of all frames are summed in float64. For strongly regular graphs all nodes tie, and the frame is the whole
   symmetric group; there the GIN names two nodes only, does not depend on the order of the others, and so needs one
   element for each choice of these two. The baseline is a GIN without frames. A finding: with the usual epsilon of zero, GIN
   with named nodes does not separate all pairs, since nodes with equal closed neighbourhoods are one to it; here epsilon is
   random.
3. Normals of surfaces from points: a PointNet plain, trained on rotated clouds, in frames of the cloud, and in frames of each
   point's 16 neighbours. Trained on upright surfaces (I), tested on upright (I/I) and rotated ones (I/SO(3)).

What differs from the paper: forces are softened (`erlangen.simulate.charged`), 1000 training systems instead of 3000 and far
fewer epochs, and the learning rates follow a schedule. Surfaces are analytic instead of CAD models. Normals are
averaged as lines, by their projectors: averages of vectors vanish wherever a patch is its own mirror image, and averages of
projectors make training with sampled elements unbiased. During such training 2 elements (cloud) or 1 (patches) are drawn;
tests use all 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from erlangen import plots
from erlangen.enforce import NamedNodes
from erlangen.groups import SE, E
from erlangen.measure import equivariance_error
from erlangen.nn import NamedGIN
from erlangen.simulate import charges_ahead
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.systems.points import _fa_nbody as nbody
from erlangen.systems.points import _fa_normals as normals
from erlangen.systems.points._fa_graphs import FlatMLP, graph_claims, graph_rows
from erlangen.systems.points._fa_nbody import Budget, FrameGNN
from erlangen.systems.points._fa_normals import LocalFrames

__all__ = ["SYSTEM", "FlatMLP", "FrameGNN", "LocalFrames", "NamedGIN", "NamedNodes", "experiment", "figure"]

SYSTEM = System(
    title="Frame Averaging for Invariant and Equivariant Network Design",
    authors=(
        "Omri Puny",
        "Matan Atzmon",
        "Heli Ben-Hamu",
        "Ishan Misra",
        "Aditya Grover",
        "Edward J. Smith",
        "Yaron Lipman",
    ),
    venue="ICLR",
    year=2022,
    arxiv="2110.03336",
    abstract_claims=(
        "Averaging over a small frame that depends on the input makes any network exactly invariant or equivariant.",
        "What the network can express is kept: averaged networks approximate every invariant or equivariant function.",
        "Averaged networks on graphs are more expressive than message passing.",
        "Frames for motions of space give universal networks for point clouds that do as well as or better than special ones.",
    ),
)

Row = dict[str, Any]
OURS, PLAIN, AUGMENTED, SAMPLED, EQUIVARIANT = nbody.MODELS
STRAIGHT = "particles keep their velocity"


# --- exactness --------------------------------------------------------------------------------------------------------
def exactness_rows(samples: int, seed: int) -> list[Row]:
    """Errors of networks with random parameters under 100 motions each, shifts of ten units, in both precisions.

    The systems are the first 10 of `samples`, which the other parts draw too.
    """
    data = nbody.part(charges_ahead(samples, seed), 0, 10)[0]
    rows: list[Row] = []
    for group in (E(3), SE(3)):
        torch.manual_seed(seed)
        model = FrameGNN(nbody.plain_net(), group, on_degenerate="allow").eval()
        for dtype in (torch.float32, torch.float64):
            x = {key: value.to(dtype) for key, value in data.items()}
            # In float32 only systems whose own axes are apart: the rest turns with rounding.
            few = {key: value[model.gaps(x) > 1e-3] for key, value in x.items()}
            g = E(3).sample(100, generator=Generator().manual_seed(seed), dtype=torch.float64)
            turns, shifts = E(3).linear(g), 10 * E(3).translation(g)
            if isinstance(group, SE):
                turns = turns * torch.linalg.det(turns)[:, None, None]  # a reflection times -1 is a rotation
            errors = equivariance_error(
                model.to(dtype), model.symmetry, few, elements=group.join(turns, shifts), reduce="max"
            )
            mirrored = equivariance_error(model, nbody.MOTIONS, few, elements=MIRROR, reduce="mean")
            row = {"part": "exactness", "model": f"FA-GNN, {group.name}, {str(dtype).removeprefix('torch.')}"}
            rows.append({**row, "equivariance error": float(errors), "mirror error": float(mirrored)})
    return rows


MIRROR = E(3).join(torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)), torch.zeros(3).double())[None]


def exactness_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about exactness."""
    table = {row["model"]: row for row in rows}

    def worst(ending: str) -> float:
        return max(row["equivariance error"] for name, row in table.items() if name.endswith(ending))

    return [
        Claim.exact(
            "motions-exact-float64",
            "Largest error of the network of latent frames under 100 motions, random parameters, float64.",
            measured=worst("float64"),
            tol=1e-12,
        ),
        Claim.exact("motions-exact-float32", "The same in float32.", measured=worst("float32"), tol=1e-5),
        Claim.ratio(
            "mirror-images-stay-apart",
            "Error of the network with SE(3) frames under reflections, over its error under SE(3), float64.",
            measured=table["FA-GNN, SE(3), float64"]["mirror error"] / worst("float64"),
            at_least=1e4,
        ),
    ]


# --- trained parts ----------------------------------------------------------------------------------------------------
def nbody_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about charged particles. The smoke run trains for seconds, so there only the errors of symmetry say much."""
    table = {row["model"]: row for row in rows}
    error, gap = "test mse", "equivariance error"
    claims = [
        Claim.exact(
            "trained-exact",
            "Equivariance error of the trained network of latent frames, float32, worst of 20 test systems and 20 motions.",
            measured=table[OURS][gap],
            tol=1e-5,
        ),
        Claim.ratio(
            "plain-is-not-equivariant",
            "Equivariance error of the plain network after training, measured in the same way.",
            measured=table[PLAIN][gap],
            at_least=0.1 if full else 1e-3,
        ),
        Claim.ratio(
            "learns",
            "Test error of the network of latent frames over that of particles that keep their velocity.",
            measured=table[OURS][error] / table[STRAIGHT][error],
            at_most=0.2 if full else 0.9,
        ),
    ]
    if not full:
        return claims
    others = (
        ("plain", PLAIN, 0.75, 0.0057 / 0.0107),
        ("augmented", AUGMENTED, 1, None),
        ("sampled", SAMPLED, 1, None),
        ("egnn", EQUIVARIANT, 1, 0.0057 / 0.0071),
    )
    return claims + [
        Claim.ratio(
            f"beats-{label}",
            f"Test error of the network of latent frames over that of: {name}.",
            measured=table[OURS][error] / table[name][error],
            at_most=limit,
            published=published,
        )
        for label, name, limit, published in others
    ]


def normals_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about normals."""
    table = {row["model"]: row for row in rows}
    upright, rotated = "1 - cos^2, I/I", "1 - cos^2, I/SO(3)"
    framed = [row for row in rows if row["model"].startswith("FA")]
    return [
        Claim.exact(
            "normals-do-not-notice-rotations",
            "Largest difference between the errors of framed networks on upright and on rotated surfaces.",
            measured=max(abs(row[upright] - row[rotated]) for row in framed),
            tol=1e-4,
        ),
        Claim.ratio(
            "normals-beat-plain-rotated",
            "Error of FA-PointNet over that of PointNet, trained upright, tested on rotated surfaces.",
            measured=table["FA-PointNet"][rotated] / table["PointNet"][rotated],
            at_most=0.75 if full else 1,
            published=0.163 / 0.449,
        ),
        Claim.ratio(
            "normals-beat-augmented-rotated",
            "Error of FA-PointNet over that of PointNet trained on rotated surfaces, tested on rotated surfaces.",
            measured=table["FA-PointNet"][rotated] / table["PointNet, augmented"][rotated],
            at_most=1,
        ),
        Claim.ratio(
            "local-frames-beat-global-ones",
            "Error of FA-local-PointNet over that of FA-PointNet on rotated surfaces.",
            measured=table["FA-local-PointNet"][rotated] / table["FA-PointNet"][rotated],
            at_most=1,
            published=0.098 / 0.163,
        ),
    ]


def experiment(scale: Scale, seed: int) -> Result:
    """The three parts; "full" has three seeds, all connected graphs of 7 and 8 nodes, and two strongly regular families."""
    full = scale == "full"
    seeds = [seed + k for k in range(3 if full else 1)]
    budget = Budget(1000, 200, 1000, 60, 12) if full else Budget(128, 50, 100, 20, 1, 32)
    exact = exactness_rows(budget.train + budget.validation + budget.test, seed)
    names = list(nbody.MODELS) if full else [OURS, PLAIN, EQUIVARIANT]
    charges = [averaged(nbody.nbody_runs(name, budget, seeds), part="n-body", model=name) for name in names]
    guesses = ((0.0, "particles stay"), (1.0, STRAIGHT))
    charges += [averaged(nbody.simple_runs(speed, budget, seeds), part="n-body", model=name) for speed, name in guesses]
    graphs = graph_rows((7, 8) if full else (7,), ((16, 2), (28, 2)) if full else ((16, 2),), seed)
    sizes, rate = (((400, 100), 128, 20) if full else ((100, 40), 64, 8)), 3e-3
    surfaces = [
        averaged([normals.normals_run(name, *sizes, rate, s) for s in seeds], part="normals", model=name)
        for name in normals.MODELS
    ]
    claims = [
        *exactness_claims(exact),
        *nbody_claims(charges, full),
        *graph_claims(graphs),
        *normals_claims(surfaces, full),
        Claim.not_measurable(
            "published-benchmarks",
            "Framed PointNet and DGCNN estimate normals of CAD models, and framed networks solve EXP and graph benchmarks.",
            published="ABC normals 0.163 (FA-PointNet) and 0.069 (FA-DGCNN), I/SO(3); EXP classified completely",
            reason="needs the ABC and EXP data sets and days on a GPU; analytic surfaces and lists of graphs are above",
        ),
    ]
    return Result([*exact, *charges, *graphs, *surfaces], claims)


def figure(result: Result) -> plots.Figure:
    """Test errors of the particle models beside their errors of symmetry."""
    rows = [row for row in result.rows if row["part"] == "n-body" and "equivariance error" in row]
    names = [str(row["model"]) for row in rows]
    labels = {"test mse": "test error (mean square)", "equivariance error": "equivariance error (relative)"}
    drawn, axes = plots.panels(2)
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        plots.barh({label: [float(row[key]) for row in rows]}, names, label, log=True, ax=ax)
    return drawn
