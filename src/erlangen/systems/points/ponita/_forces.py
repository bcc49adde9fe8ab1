"""Energies and forces of a molecule: one potential on positions and orientations, on positions, on irreps, and EGNN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erlangen.data import MoleculeFrames, extended_xyz
from erlangen.errors import MissingExtraError
from erlangen.groups import O
from erlangen.nn import EGNN, IrrepsNetwork
from erlangen.simulate import ethanol, xtb_trajectory
from erlangen.survey import Claim, Part, Rival, Run, Sizes, Split, Training, compare
from erlangen.systems.points.ponita.method import Ponita
from erlangen.training import one_cycle

OURS, PLAIN, IRREPS, EXACT = "PONITA, 12 directions", "PNITA", "irreps network, degree 2", "EGNN"

CUTOFF = 5.0
"""Angstrom from which atoms do not see each other, for all networks but EGNN, which has no cutoff."""
COLD, HOT = 300.0, 500.0
"""Kelvin of the molecules that train, and of those that are tested, too."""
WARMUP = 600
"""Steps of 0.5 fs before the first frame."""
RECORD = 10
"""Steps of 0.5 fs from one frame to the next."""
FORCE_WEIGHT = 10.0
"""How much squared errors of forces count beside those of energies per atom, both in units of the forces of the training."""

Frames = dict[str, Tensor]
"""Positions ``pos [B, N, 3]`` and one-hot elements ``kinds [B, N, K]``."""


# --- models -----------------------------------------------------------------------------------------------------------
class Potential(nn.Module):
    """Energies ``[B]`` of a network and forces ``[B, N, 3]``, the negative slope of the energy; both in eV and Angstrom.

    Args:
        net: from positions ``[B, N, 3]`` and kinds ``[B, N, K]`` to a number for each molecule ``[B]``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(()))

    def fix_unit(self, y: Mapping[str, Tensor]) -> None:
        """The mean energy of the training as zero, and the size of its forces as the unit."""
        self.shift.copy_(y["energy"].mean())
        self.scale.copy_(y["force"].square().mean().sqrt())

    def forward(self, x: Frames) -> dict[str, Tensor]:
        """``{"energy", "force", "scale"}``."""
        with torch.enable_grad():
            pos = x["pos"].detach().requires_grad_()
            energy = self.scale * self.net(pos, x["kinds"])
            (slope,) = torch.autograd.grad(energy.sum(), pos, create_graph=self.training)
        total = (energy if self.training else energy.detach()).double() + self.shift
        return {"energy": total, "force": -slope, "scale": self.scale}


class Oriented(nn.Module):
    """`Ponita` as an energy; with no directions the paper's PNITA."""

    def __init__(self, kinds: int, directions: int, width: int, layers: int, basis: int) -> None:
        super().__init__()
        self.net = Ponita(
            kinds, scalars_out=1, directions=directions, level="graph", width=width, layers=layers, basis=basis,
            widening=2, cutoff=CUTOFF, layer_scale=0.1,
        )  # fmt: skip

    def forward(self, pos: Tensor, kinds: Tensor) -> Tensor:
        """``[B]``."""
        return self.net({"pos": pos, "x": kinds})["x"][:, 0]


class Steered(nn.Module):
    """`IrrepsNetwork` as an energy, such as NequIP."""

    def __init__(self, kinds: int, width: int, layers: int) -> None:
        super().__init__()
        hidden = f"{width}x0e+{3 * width // 4}x1o+{width // 2}x2e"
        self.net = IrrepsNetwork(
            f"{kinds}x0e", hidden, "1x0e", lmax_edge=2, layers=layers, cutoff=CUTOFF, num_neighbors=8.0
        )

    def forward(self, pos: Tensor, kinds: Tensor) -> Tensor:
        """``[B]``."""
        return self.net(kinds, pos).sum((1, 2))


class Distances(nn.Module):
    """`EGNN` as an energy: the sum of what it says of the atoms."""

    def __init__(self, kinds: int, width: int, layers: int) -> None:
        super().__init__()
        self.net = EGNN(kinds, 1, width, layers=layers)

    def forward(self, pos: Tensor, kinds: Tensor) -> Tensor:
        """``[B]``."""
        return self.net(kinds, pos)[0].sum((1, 2))


def potential_rivals(run: Run[Any], kinds: int) -> dict[str, Rival]:
    """All potentials. Only the one that is not exactly symmetric sees turned molecules."""
    widths, layers, basis, batch = run.budget.potentials, run.budget.layers, run.budget.basis, run.budget.molecule_batch

    def prepare(model: Potential, split: Split) -> None:
        x, y = split.train
        model.fix_unit(y)  # pyright: ignore[reportArgumentType]
        if isinstance(model.net, Oriented):
            first: Any = x
            model.net.net.calibrate_({"pos": first["pos"][:batch], "x": first["kinds"][:batch]})

    def rival(make: Callable[[], nn.Module], transform: Callable[..., Any] | None = None) -> Rival:
        return Rival(lambda: Potential(make()), transform, prepare=prepare)

    return {
        OURS: rival(lambda: Oriented(kinds, 12, widths.ours, layers, basis), turned),
        PLAIN: rival(lambda: Oriented(kinds, 0, widths.plain, layers, basis)),
        IRREPS: rival(lambda: Steered(kinds, widths.irreps, layers)),
        EXACT: rival(lambda: Distances(kinds, widths.egnn, layers)),
    }


# --- data -------------------------------------------------------------------------------------------------------------
@cache
def heated(count: int, temperature: float, seed: int) -> MoleculeFrames:
    """Ethanol in motion under GFN2-xTB, one trajectory of its own for each seed.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    motion = xtb_trajectory(
        ethanol(), steps=RECORD * (count - 1) or RECORD, record_every=RECORD, temperature=temperature, warmup=WARMUP,
        generator=Generator().manual_seed(seed), dtype=torch.float64,
    )  # fmt: skip
    return MoleculeFrames(motion.molecule.numbers, motion.pos[:count], motion.energy[:count], motion.force[:count])


def pair(frames: MoleculeFrames, rows: Tensor) -> tuple[Frames, dict[str, Tensor]]:
    """Centred positions and kinds, energies and forces."""
    assert frames.force is not None
    kinds = (frames.numbers[:, None] == frames.numbers.unique()).float()
    pos = frames.pos[rows]
    x = {"pos": (pos - pos.mean(1, keepdim=True)).float(), "kinds": kinds.expand(len(rows), -1, -1)}
    return x, {"energy": frames.energy[rows], "force": frames.force[rows].float()}


def split_of(sizes: Sizes, seed: int) -> Split:
    """Trained and validated on one trajectory at 300 K, tested on others: at 300 K, and at 500 K, where nothing was chosen."""
    order = torch.randperm(sizes.train + sizes.validation, generator=Generator().manual_seed(seed))
    first = heated(len(order), COLD, 1000 + seed)
    tests = {"300 K": heated(sizes.test, COLD, 2000 + seed), "500 K": heated(sizes.test, HOT, 3000 + seed)}
    return _split(first, order, sizes, {name: pair(one, torch.arange(sizes.test)) for name, one in tests.items()})


def file_split(folder: Path, sizes: Sizes, seed: int) -> Split:
    """A folder with ``train_300K.xyz``; files ``test_MD_*.xyz`` are tests, or else what the training leaves of it."""
    frames = extended_xyz(folder / "train_300K.xyz")
    order = torch.randperm(len(frames.pos), generator=Generator().manual_seed(seed))
    used = sizes.train + sizes.validation
    tests = {path.stem.removeprefix("test_MD_"): extended_xyz(path) for path in sorted(folder.glob("test_MD_*.xyz"))}
    named = {name: pair(one, torch.arange(min(sizes.test, len(one.pos)))) for name, one in tests.items()}
    return _split(frames, order, sizes, named or {"rest": pair(frames, order[used : used + sizes.test])})


def _split(
    frames: MoleculeFrames, order: Tensor, sizes: Sizes, tests: Mapping[str, tuple[Frames, dict[str, Tensor]]]
) -> Split:
    train, spare = (pair(frames, rows) for rows in order[: sizes.train + sizes.validation].split(list(sizes[:2])))
    validation: Any = ({"": spare[0]}, {"": spare[1]})
    test: Any = tuple({name: one[k] for name, one in tests.items()} for k in (0, 1))
    return Split(train, validation, test)


def turned(
    x: Frames, y: Mapping[str, Tensor], *, generator: Generator | None = None
) -> tuple[Frames, dict[str, Tensor]]:
    """Each molecule with its forces, turned or mirrored at random."""
    turns = O(3).sample(len(x["pos"]), generator=generator, dtype=x["pos"].dtype).to(x["pos"].device)
    return {**x, "pos": x["pos"] @ turns.mT}, {**y, "force": y["force"] @ turns.mT}


# --- the part ---------------------------------------------------------------------------------------------------------
def squares(found: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """Mean squared errors of energies per atom and of forces."""
    atoms = y["force"].shape[1]
    energy = ((found["energy"] - y["energy"]).float() / (atoms * found["scale"])).square().mean()
    return energy + FORCE_WEIGHT * ((found["force"] - y["force"]) / found["scale"]).square().mean()


def errors_of(model: nn.Module, x: Mapping[str, Frames], y: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean absolute errors of energies in meV and of forces in meV / Angstrom, for each set of frames."""
    row: dict[str, float] = {}
    for name, frames in x.items():
        batches = zip(*(value.split(50) for value in frames.values()), strict=True)
        found = [model(dict(zip(frames, batch, strict=True))) for batch in batches]
        for key, unit in (("energy", "meV"), ("force", "meV/A")):
            apart = torch.cat([one[key] for one in found]) - y[name][key]
            row[f"{key}, {unit}{name and ', '}{name}"] = 1e3 * float(apart.abs().mean())
    return row


def forces_part(run: Run[Any], molecule: str = "") -> Part:
    """Ethanol by GFN2-xTB, where tblite is installed; with `molecule`, the files of that folder are a table, too."""
    sizes = run.sizes(run.budget.frames)
    how = Training(
        squares, run.budget.frame_epochs, run.budget.molecule_batch, rates=(1e-2, 2e-2), optimizer=torch.optim.Adam,
        schedule=one_cycle, clip=1.0, widen=3,
    )  # fmt: skip

    def measure(model: nn.Module, x: Mapping[str, Frames], y: Any, generator: Generator) -> dict[str, float]:
        return errors_of(model, x, y)

    files: Part = Part()
    if molecule:
        folder = Path(molecule)
        kinds = len(extended_xyz(folder / "train_300K.xyz").numbers.unique())
        files = compare(
            folder.name, potential_rivals(run, kinds), lambda seed: file_split(folder, sizes, seed), how, measure,
            best="force, meV/A", run=run,
        ).part()  # fmt: skip
    try:
        split_of(sizes, run.seed)
    except MissingExtraError:
        reason = "needs the extra molecules: pip install 'erlangen[molecules]'"
        unmeasured = [
            Claim.not_measurable(name, statement, published=published, reason=reason)
            for name, statement, published in ((*one[:2], one[5]) for one in CLAIMS)
        ]
        return Part(files.rows, unmeasured, files.runs)
    table = compare(
        "ethanol",
        potential_rivals(run, 3),
        lambda seed: split_of(sizes, seed),
        how,
        measure,
        best="force, meV/A",
        run=run,
    )
    claims = [
        table.beats(name, ours, theirs, column, statement=statement, published=published)
        for name, statement, ours, theirs, column, published in CLAIMS
    ]
    part = table.part(*claims)
    return Part([*part.rows, *files.rows], part.claims, [*part.runs, *files.runs])


CLAIMS = (
    (
        "forces-beat-pnita", "Ethanol by GFN2-xTB, 300 K: error of forces of PONITA over that of PNITA, without directions.",
        OURS, PLAIN, "force, meV/A, 300 K", "2.5 and 4.1 meV/A (rMD17 ethanol)",
    ),
    (
        "energies-beat-pnita", "Ethanol by GFN2-xTB, 300 K: error of energies of PONITA over that of PNITA, without directions.",
        OURS, PLAIN, "energy, meV, 300 K", "0.4 and 0.7 meV (rMD17 ethanol)",
    ),
    (
        "forces-beat-irreps-network",
        "Ethanol by GFN2-xTB, 300 K: error of forces of PONITA over that of a tensor-product network of degree 2.",
        OURS, IRREPS, "force, meV/A, 300 K", "2.5 and 2.8 meV/A (rMD17 ethanol, NequIP)",
    ),
    (
        "energies-beat-irreps-network",
        "Ethanol by GFN2-xTB, 300 K: error of energies of PONITA over that of a tensor-product network of degree 2.",
        OURS, IRREPS, "energy, meV, 300 K", "0.4 and 0.4 meV (rMD17 ethanol, NequIP)",
    ),
    (
        "forces-hotter", "Ethanol by GFN2-xTB, 500 K, trained at 300 K: error of forces of PONITA over that of the best rival.",
        OURS, (PLAIN, IRREPS, EXACT), "force, meV/A, 500 K", None,
    ),
)  # fmt: skip
"""Name, statement, ours, theirs, column, and what the paper reports."""
