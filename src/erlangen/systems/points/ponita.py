"""Equivariant networks without tensor products: kernels that depend on pairs of oriented points through invariants alone.

Bekkers, Vadgama, Hesselink, van der Linden and Romero (2024) start from a theorem: a convolution on positions, or on positions
with directions, is equivariant exactly if its kernel gives equal weights to all pairs of points that a motion takes into one
another. So a kernel is any network of numbers that name such a class of pairs. For positions this is the distance (PNITA),
for positions in space with a direction o the numbers ``o_i.r``, ``|r - (o_i.r) o_i|`` and ``o_i.o_j`` (PONITA). Features are
a number for each point, direction of a fixed grid, and channel; vectors enter as ``v.o`` and leave as ``3/O sum f(o) o``. The
convolution is split into one over positions, one over directions and a mixing of channels, in blocks like ConvNeXt's.
Rotations that permute the grid are kept exactly, all others nearly.

The convolution (`erlangen.nn.FiberConv`), kernels and invariants are part of the library; here is the network `Ponita`, on
positions, on a grid of directions, or on the edges of a graph as oriented points, which is exact for every rotation.

Re-measured here:

1. Properties: errors under the rotations that permute a grid, under all motions where they are kept, under shifts and
   reorderings, in both precisions.
2. Grids: how far the network is from equivariant, for 6 to 64 directions, with random parameters and with those trained on 12
   directions; the same parameters serve every grid, since all sums over directions are means.
3. Charged particles, five in a box without walls: places and velocities at frame 30 to places at frame 40. Against `EGNN`, the
   library's tensor-product network of degree 1, frame averaging (eight frames) and message passing trained on rotated
   systems. The same data, epochs, batches and schedule for all, about equally many parameters; each one's learning rate is the
   better of two after short trainings on the first seed's data, judged on separate validation data. PONITA too is trained on
   turned systems, as in the authors' code. All read the products of charges as features of edges, but for the tensor-product
   network, which reads charges. Equivariance errors are those of the predicted displacements; times are processor time for
   one step of a batch of 100.
4. Superpixels of digits: PONITA on eight directions of the plane against PNITA. Digits are turned at random before they are cut
   into superpixels, in training and in the test; the same test digits are measured upright, too.
5. Diffusion: PONITA on six directions predicts the noise in shaken, turned molecules of methane. Samples are compared with unseen
   molecules by their distances, against the normal distribution with the mean and covariance of the data.
6. Molecules of QM9, in the full run and where the extra `qm9` is installed: polarisability tensors from places and elements. A
   tensor is the sum over atoms of a number times 1 and of ``f(o) (3 o o^T - 1)`` over directions. EGNN weighs ``r r^T`` of atoms
   and of neighbours, which is exactly equivariant; message passing gives nine numbers and is trained on turned molecules, as
   PONITA is. All learn what remains after a multiple of 1 that the numbers of atoms tell, from the same molecules, with about
   equally many parameters, neighbours up to 3 Angstrom, epochs and schedule; each one's learning rate is the better of two
   after a short training, on validation data.

What differs from the paper: everything is smaller (32 channels, 3 layers, 12 directions, 40 epochs, and 1000 systems instead of
3000); products of charges condition the kernels; forces are softened (`erlangen.simulate.charged`); superpixels come
from `erlangen.data.superpixels`, and the 24 brightest of 150 are kept. Kernels are calibrated by an explicit call before the
training. The three numbers of the paper do not name a class of pairs in space completely; with edges as oriented points
``complete=True`` adds what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from erlangen import plots
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.systems.points import _ponita_molecules as molecules
from erlangen.systems.points import _ponita_nbody as nbody
from erlangen.systems.points import _ponita_pixels as pixels
from erlangen.systems.points import _ponita_qm9 as tensors
from erlangen.systems.points._ponita_network import Ponita
from erlangen.systems.points._ponita_properties import property_claims, property_rows

__all__ = ["SYSTEM", "Ponita", "experiment", "figure"]

SYSTEM = System(
    title="Fast, Expressive SE(n) Equivariant Networks through Weight-Sharing in Position-Orientation Space",
    authors=(
        "Erik J. Bekkers",
        "Sharvaree Vadgama",
        "Rob D. Hesselink",
        "Putri A. van der Linden",
        "David W. Romero",
    ),
    venue="ICLR",
    year=2024,
    arxiv="2310.02970",
    abstract_claims=(
        "Equivariant weight sharing means equal weights for pairs of points in one class; numbers that name it suffice.",
        "Numbers that name the classes are derived for positions, for positions with orientations, and for the group itself.",
        "Features on positions and orientations are expressive, and cheaper than features on the whole group.",
        "The network leads on energies and forces, on trajectories of particles and on molecules drawn by diffusion.",
    ),
)

Row = dict[str, Any]


def grids_and_particles(
    names: Sequence[str], budget: nbody.Budget, seeds: Sequence[int], networks: int, few: int
) -> list[Row]:
    """Rows of the parts "n-body" and "grids"; the trained networks of the first serve the second."""
    trained: list[tuple[str, nbody.Oriented]] = []

    def keep(_: int, model: nn.Module) -> None:
        trained.append(("trained", cast("nbody.Oriented", model)))

    rows = [
        averaged(nbody.nbody_runs(name, budget, seeds, keep if name == nbody.OURS else None), part="n-body", model=name)
        for name in names
    ]
    rows.append(averaged(nbody.straight_runs(budget, seeds), part="n-body", model=nbody.STRAIGHT))
    train, _, test = nbody.splits(budget, seeds[0], charges=True)
    random = nbody.random_networks(networks, nbody.part(train, 0, 100), seeds[0])
    shown = nbody.part(test, 0, 5 * few)
    return rows + nbody.grid_rows(random, shown, few, seeds[0]) + nbody.grid_rows(trained, shown, few, seeds[0])


# --- claims -----------------------------------------------------------------------------------------------------------
def grid_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about more and more directions."""
    errors = {
        kind: [r["equivariance error"] for r in rows if r["part"] == "grids" and r["model"].startswith(kind)]
        for kind in ("random", "trained")
    }
    claims = [
        Claim.ratio(
            f"more-directions-{kind}",
            f"Equivariance error on 64 directions over that on 6, {kind} parameters.",
            measured=values[-1] / values[0],
            at_most=0.25,
        )
        for kind, values in errors.items()
    ]
    rises = sum(b >= a for a, b in itertools.pairwise(errors["random"]))
    return [
        *claims,
        Claim.exact(
            "error-falls-with-directions",
            "Steps from 6 to 12, 20, 32 and 64 directions on which the equivariance error does not fall, random parameters.",
            measured=rises,
            tol=0,
        ),
    ]


def nbody_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about charged particles. The smoke run trains for seconds, which settles little between good models."""
    table = {row["model"]: row for row in rows if row["part"] == "n-body"}
    ours, error = table[nbody.OURS], "test mse"
    claims = [
        Claim.ratio(
            "trained-nearly-equivariant",
            "Relative equivariance error of predicted displacements after training, 12 directions, mean over all rotations.",
            measured=ours["equivariance error"],
            at_most=0.1,
        ),
        Claim.ratio(
            "learns",
            "Test error over that of particles that keep their velocity.",
            measured=ours[error] / table[nbody.STRAIGHT][error],
            at_most=0.2 if full else 0.9,
        ),
    ]
    if not full:
        return claims
    others = (
        ("egnn", "EGNN", 0.8, 0.0043 / 0.0070),
        ("irreps-network", "irreps network", 1, "0.0043 and 0.0043 (SEGNN)"),
        ("fa-gnn", "FA-GNN", 0.8, None),
        ("augmented", "GNN, augmented", 0.8, None),
    )
    claims += [
        Claim.ratio(
            f"beats-{label}",
            f"Test error on particles over that of: {name}.",
            measured=ours[error] / table[name][error],
            at_most=limit,
            published=published,
        )
        for label, name, limit, published in others
    ]
    return [
        *claims,
        Claim.ratio(
            "faster-than-irreps-network",
            "Processor time of a step of training over that of the tensor-product network of degree 1.",
            measured=ours["step, ms"] / table["irreps network"]["step, ms"],
            at_most=1,
        ),
    ]


def pixel_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about superpixels."""
    table = {row["model"]: row for row in rows if row["part"] == "superpixels"}
    ours, plain = table[pixels.OURS], table[pixels.PLAIN]
    return [
        Claim.ratio(
            "orientations-help-on-turned-digits",
            "Share of wrong turned digits of PONITA over that of PNITA.",
            measured=ours["error, turned"] / plain["error, turned"],
            at_most=0.7 if full else 1.1,
            published=1.17 / 3.04,
        ),
        Claim.ratio(
            "turned-digits-are-no-harder",
            "Share of wrong turned digits of PONITA over that of the same digits upright.",
            measured=ours["error, turned"] / max(ours["error, upright"], 1e-3),
            at_most=1.25,
        ),
    ]


def molecule_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about diffusion."""
    table = {row["model"]: row for row in rows if row["part"] == "diffusion"}
    ours = table["PONITA diffusion"]
    moves = Claim.exact(
        "sampler-moves-with-the-noise",
        "Largest relative difference between turned samples and samples of turned noise, rotations of the grid, float64.",
        measured=ours["sampler error"],
        tol=1e-9,
    )
    if not full:  # a few steps of training draw no molecules
        return [moves]
    closer = Claim.ratio(
        "molecules-beat-gaussian",
        "Distance of lengths of bonds from those of unseen molecules, over that of the Gaussian with the same moments.",
        measured=ours["distance gap, A"] / table["Gaussian"]["distance gap, A"],
        at_most=0.5,
    )
    return [moves, closer]


# --- the experiment ---------------------------------------------------------------------------------------------------
def experiment(scale: Scale, seed: int) -> Result:
    """All parts; "full" has three seeds (one on QM9), all rivals, trains to the end, and alone has the part on QM9."""
    full = scale == "full"
    seeds = [seed + k for k in range(3 if full else 1)]
    particles = nbody.Budget(1000, 200, 500, 40, 8) if full else nbody.Budget(128, 32, 100, 6, 1, 32)
    names = list(nbody.MODELS) if full else [nbody.OURS, "EGNN"]
    drawings = pixels.Budget(2000, 200, 500, 15, 2) if full else pixels.Budget(60, 20, 40, 2, 1, 20)
    rows = property_rows(100 if full else 20, seed)
    rows += grids_and_particles(names, particles, seeds, *((3, 20) if full else (1, 2)))
    rows += [
        averaged(pixels.pixel_runs(name, drawings, seeds), part="superpixels", model=name) for name in pixels.SIZES
    ]
    sizes = (500, 60, 300, 50) if full else (100, 4, 60, 12)
    drawn = [molecules.molecule_runs(*sizes, s) for s in seeds]
    rows += [averaged([run[name] for run in drawn], part="diffusion", model=name) for name in drawn[0]]
    if full:
        rows += tensors.tensor_rows(tensors.Budget(), seeds[:1])
    claims = [
        *property_claims([row for row in rows if row["part"] == "properties"]),
        *grid_claims(rows),
        *nbody_claims(rows, full),
        *pixel_claims(rows, full),
        *molecule_claims(rows, full),
        *(tensors.tensor_claims(rows) if full else []),
        Claim.not_measurable(
            "published-benchmarks",
            "PONITA leads on energies and forces of rMD17, on properties of QM9, and on molecules drawn by diffusion.",
            published="rMD17 aspirin 1.7 meV and 5.8 meV/A; QM9 dipole 0.0121 D, gap 30.4 meV",
            reason="needs the rMD17 data, which are not part of the library, all of QM9 (extra qm9), and days on a GPU",
        ),
    ]
    return Result(rows, claims)


def figure(result: Result) -> plots.Figure:
    """Test errors and times of the particle models, and equivariance errors by the number of directions."""
    rows: list[Any] = [row for row in result.rows if row["part"] == "n-body" and "step, ms" in row]
    grids: list[Any] = [row for row in result.rows if row["part"] == "grids"]
    names = [str(row["model"]) for row in rows]
    curves = {
        f"{kind} parameters": [
            (float(row["directions"]), float(row["equivariance error"]))
            for row in grids
            if str(row["model"]).startswith(kind)
        ]
        for kind in ("random", "trained")
    }
    places = [count for count, _ in curves["random parameters"]]
    drawn, (left, right, below) = plots.panels(3)
    for ax, key, label in (
        (left, "test mse", "test error (mean square)"),
        (right, "step, ms", "a step of training (ms)"),
    ):
        plots.barh({label: [float(row[key]) for row in rows]}, names, label, log=True, ax=ax)
    plots.line(curves, "directions", "equivariance error (relative)", logy=True, xticks=places, ax=below)
    return drawn
