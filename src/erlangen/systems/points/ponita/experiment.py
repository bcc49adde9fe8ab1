"""What is measured of PONITA: properties, charged particles, grids, cost, energies and forces, superpixels, diffusion, QM9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.simulate import charges_ahead
from erlangen.survey import Claim, Part, Result, Run, Sizes, Split, Training, compare, properties, sweep
from erlangen.systems.points.ponita._cost import cost_part, whole_group
from erlangen.systems.points.ponita._forces import forces_part
from erlangen.systems.points.ponita._molecules import diffusion_part, sampler_moves_with_the_noise
from erlangen.systems.points.ponita._pixels import superpixels_part
from erlangen.systems.points.ponita._properties import GRIDS, PROPERTIES, broken, random_network
from erlangen.systems.points.ponita._qm9 import tensors_part
from erlangen.systems.points.ponita._spaces import Grid
from erlangen.systems.points.ponita.rivals import IRREPS, OURS, STRAIGHT, WHOLE, Oriented, Widths, particle_rivals
from erlangen.training import one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Potentials(NamedTuple):
    """Channels of networks of energies that have about equally many parameters."""

    ours: int = 32
    plain: int = 36
    irreps: int = 19
    egnn: int = 30


SMALL, FEW = Widths(), Potentials()


@dataclass(frozen=True)
class Budget:
    """What a run spends: elements of groups, random networks and systems of the properties, then the parts."""

    seeds: int
    elements: int
    networks: int
    few: int
    repeats: int
    charges: Sizes
    charge_epochs: int
    charge_batch: int
    frames: Sizes
    frame_epochs: int
    molecule_batch: int
    digits: Sizes
    digit_epochs: int
    digit_batch: int
    molecules: Sizes
    molecule_epochs: int
    steps: int
    qm9: Sizes
    qm9_epochs: int
    widths: Widths = SMALL
    potentials: Potentials = FEW
    layers: int = 3
    basis: int = 24


BUDGETS = {
    "smoke": Budget(
        seeds=1, elements=20, networks=1, few=2, repeats=1,
        charges=Sizes(64, 16, 32), charge_epochs=2, charge_batch=32,
        frames=Sizes(16, 6, 6), frame_epochs=1, molecule_batch=8,
        digits=Sizes(40, 20, 20), digit_epochs=1, digit_batch=20,
        molecules=Sizes(50, 20, 30), molecule_epochs=2, steps=12,
        qm9=Sizes(20, 5, 10), qm9_epochs=1,
    ),
    "full": Budget(
        seeds=3, elements=100, networks=3, few=20, repeats=9,
        charges=Sizes(1000, 200, 500), charge_epochs=40, charge_batch=100,
        frames=Sizes(250, 50, 200), frame_epochs=25, molecule_batch=10,
        digits=Sizes(2000, 200, 500), digit_epochs=12, digit_batch=20,
        molecules=Sizes(500, 100, 300), molecule_epochs=60, steps=50,
        qm9=Sizes(1000, 150, 300), qm9_epochs=14,
    ),
    "paper": Budget(
        seeds=5, elements=100, networks=3, few=20, repeats=9,
        charges=Sizes(3000, 2000, 2000), charge_epochs=10_000, charge_batch=100,
        frames=Sizes(950, 50, 1000), frame_epochs=5000, molecule_batch=5,
        digits=Sizes(7000, 1000, 2000), digit_epochs=100, digit_batch=20,
        molecules=Sizes(5000, 500, 1000), molecule_epochs=500, steps=500,
        qm9=Sizes(100_000, 10_000, 10_000), qm9_epochs=100,
        widths=Widths(128, 159, 141, 165), potentials=Potentials(128, 156, 106, 150), layers=5, basis=256,
    ),
}  # fmt: skip


# --- charged particles ------------------------------------------------------------------------------------------------
def charges_of(run: Run[Budget], seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Systems of one seed, of which nothing was ever chosen by looking."""
    return charges_ahead(run.sizes(run.budget.charges).total, 100 + seed)


def particles_parts(run: Run[Budget]) -> tuple[Part, Part]:
    """Where five charged particles are ten frames later; then the trained networks on other grids of directions."""
    budget, sizes = run.budget, run.sizes(run.budget.charges)
    trained: list[Oriented] = []

    def draw(seed: int) -> Split:
        return Split.of(*charges_of(run, seed), sizes)

    @torch.no_grad()
    def validate(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> dict[str, float]:
        return {"test mse": float(mse_loss(model(x), y))}

    def measure(model: Any, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        row = validate(model, x, y, generator)
        if isinstance(model, nn.Module):
            few = {key: value[:50] for key, value in x.items()}
            row["equivariance error"] = broken(model, few, generator.initial_seed())
        if isinstance(model, Oriented) and isinstance(model.net.space, Grid):
            trained.append(model)
        return row

    how = Training(
        mse_loss,
        budget.charge_epochs,
        budget.charge_batch,
        rates=(1e-2, 2e-2),
        optimizer=torch.optim.Adam,
        decay=1e-12,
        schedule=one_cycle,
        clip=1.0,
    )
    whole = partial(whole_group, budget.widths.ours, budget.layers, budget.basis, 12)
    rivals = particle_rivals(budget.widths, budget.layers, budget.basis, budget.charge_batch, whole)
    table = compare("n-body", rivals, draw, how, measure, best="test mse", run=run, validate=validate)
    error, gap = "test mse", "equivariance error"
    part = table.part(
        table.beats(
            "more-equivariant-than-augmented", OURS, "GNN, augmented", gap,
            statement="Equivariance error of predicted displacements under all rotations, after training on turned systems: "
            "PONITA on 12 directions over a plain network.",
        ),
        table.beats("learns", OURS, STRAIGHT, error),
        table.beats("beats-egnn", OURS, "EGNN", error, published=0.0043 / 0.0070),
        table.beats("beats-irreps-network", OURS, IRREPS, error, published="0.0043 and 0.0043 (SEGNN)"),
        table.beats("beats-fa-gnn", OURS, "FA-GNN", error),
        table.beats("beats-augmented", OURS, "GNN, augmented", error),
        table.beats(
            "beats-whole-group", OURS, WHOLE, error,
            statement="N-body: test error of PONITA on 12 directions over that of a network on 12 rotations of the whole group, "
            "as many numbers for each particle.",
        ),
    )  # fmt: skip
    return part, grids_part(run, trained)


def grids_part(run: Run[Budget], trained: list[Oriented]) -> Part:
    """The same parameters on grids of more and more directions, random ones and those trained with each seed."""
    count_of_tests = run.sizes(run.budget.charges).test

    @torch.no_grad()
    def errors(seed: int, kind: str, count: int) -> Mapping[str, float]:
        model = random_network(seed) if kind == "random" else trained[run.seeds.index(seed)]
        x, y = charges_of(run, seed)
        tests = {key: value[-count_of_tests:] for key, value in x.items()}
        other = Oriented(model.net.with_directions(count)).cpu().eval()  # a copy; the data are there
        few = {key: value[: run.budget.few] for key, value in tests.items()}
        return {
            "directions": count,
            "equivariance error": broken(other, few, seed),
            "test mse": float(mse_loss(other(tests), y[-count_of_tests:])),
        }

    methods = {
        f"{kind}, {count} directions": partial(errors, kind=kind, count=count)
        for kind in ("random", "trained")
        for count in GRIDS
    }
    table = sweep("grids", methods, run=run)
    ours, theirs = "trained, 64 directions", "trained, 12 directions"
    return table.part(
        table.beats(
            "more-directions-trained", ours, theirs, "equivariance error",
            statement="Equivariance error of networks trained on 12 directions: run on 64 directions over run on 12.",
        )
    )  # fmt: skip


# --- all --------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget], molecule: str = "") -> Result:
    """All parts; ethanol where the extra `molecules` is installed, QM9 where `qm9` is.

    Args:
        run: the run.
        molecule: a folder with ``train_300K.xyz`` and perhaps ``test_MD_*.xyz``, a second molecule for energies and forces.
    """
    unmeasured = Claim.not_measurable(
        "published-benchmarks",
        "PONITA leads on energies and forces of rMD17, on properties of QM9, and on molecules drawn by diffusion.",
        published="rMD17 aspirin 1.7 meV and 5.8 meV/A; QM9 dipole 0.0121 D, gap 30.4 meV",
        reason="needs the rMD17 data, which are not part of the library, all of QM9 (extra qm9), and days on a GPU",
    )
    return Result.of(
        properties(run, *PROPERTIES, sampler_moves_with_the_noise),
        *particles_parts(run),
        cost_part(run),
        forces_part(run, molecule),
        superpixels_part(run),
        diffusion_part(run),
        tensors_part(run),
        Part(claims=[unmeasured]),
    )


def figure(result: Result) -> Figure:
    """Test errors of the particle models, the cost of a step, and equivariance errors by the number of directions."""
    from erlangen import plots

    rows: list[Any] = [row for row in result.rows if row["part"] == "n-body" and "equivariance error" in row]
    costs: list[Any] = [row for row in result.rows if row["part"] == "cost"]
    grids: list[Any] = [row for row in result.rows if row["part"] == "grids"]
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
    for ax, some, key, label in (
        (left, rows, "test mse", "test error (mean square)"),
        (right, costs, "step, ms", "a step of training (ms)"),
    ):
        names = [str(row["model"]) for row in some]
        plots.barh({label: [float(row[key]) for row in some]}, names, label, log=True, ax=ax)
    plots.line(curves, "directions", "equivariance error (relative)", logy=True, xticks=places, ax=below)
    return drawn
