"""What is measured of flow-equivariant recurrence: the theorem, drifting and spinning digits, clips to classify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.flop_counter import FlopCounterMode

from erlangen.data import drifting_digits, spinning_digits
from erlangen.groups import Cyclic
from erlangen.measure import accuracy
from erlangen.nn import velocity_grid
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Table, Training, compare, properties
from erlangen.systems.images.fernn._properties import PROPERTIES, details_part
from erlangen.systems.images.fernn.method import (
    Classifier,
    Predictor,
    Recurrence,
    drift_recurrence,
    spin_recurrence,
    torus_decoder,
    turning_decoder,
)
from erlangen.systems.images.fernn.rivals import Black, ConvLSTM, CopyLast, learned_shifts
from erlangen.training import one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOISE = 0.2
"""Standard deviation of the noise on clips to classify."""
CLIP = 4
"""Frames of a clip to classify."""
SPAN = range(-2, 3)
"""Velocities that are tested, of rows and of columns; those up to 1 are trained."""
TWICE = "twice as many frames ahead as it was trained on"
STILL = torch.zeros(1, 2, dtype=torch.int64)


@dataclass(frozen=True)
class Budget:
    """What a run spends: clips, and the sizes of pictures and networks.

    Attributes:
        batches: of drifting, spinning and classified clips.
        rates: learning rates.
        size, pool: of the torus, and how many times digits are shrunk.
        given, ahead: frames that a prediction starts from, and that training predicts; frames that a test predicts.
        channels, fields, hidden: of the states, of spinning states, and of the classifier behind the pooling.
    """

    seeds: int
    drift: Sizes
    spin: Sizes
    classes: Sizes
    epochs: int
    batches: tuple[int, int, int] = (8, 8, 16)
    rates: tuple[float, ...] = (5e-3, 1e-2)
    size: tuple[int, int] = (16, 16)
    pool: int = 2
    given: int = 5
    ahead: int = 20
    channels: int = 8
    fields: int = 3
    hidden: int = 32

    @property
    def frames(self) -> list[int]:
        """Frames ahead that have a column."""
        all_of_them = {1, 2, 3, 4, 5, 7, 10, 13, 15, 20, self.given, 2 * self.given, self.ahead}
        return sorted(ahead for ahead in all_of_them if ahead <= self.ahead)


BUDGETS = {
    "smoke": Budget(1, Sizes(48, 8, 8), Sizes(48, 16, 16), Sizes(48, 20, 20), 1),
    "full": Budget(3, Sizes(560, 80, 80), Sizes(320, 80, 80), Sizes(1400, 300, 600), 9),
    "paper": Budget(
        5, Sizes(60_000, 1000, 10_000), Sizes(60_000, 1000, 10_000), Sizes(60_000, 1000, 10_000), 50,
        (128, 32, 32), (1e-3, 1e-4), (28, 28), 1, 10, 30, 128, 32, 128,
    ),
}  # fmt: skip


# --- predictions -----------------------------------------------------------------------------------------------------
@torch.no_grad()
def frame_errors(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared errors ``[B, horizon]``, means over pixels, of predicted frames ``[B, horizon, 1, H, W]``."""
    batches = zip(x.split(20), y.split(20), strict=True)
    return torch.cat([(model(given, y.shape[1]) - frames).square().mean((2, 3, 4)) for given, frames in batches])


def megaflops(model: nn.Module, *inputs: Any) -> int:
    """Millions of floating-point operations of one forward pass, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return round(counter.get_total_flops() / 1e6)


def trained_frames(model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> dict[str, float]:
    """What chooses learning rates: the error of the frames that training predicts."""
    return {"MSE, trained frames": float(frame_errors(model, x, y).mean())}


def training(run: Run[Budget], loss: Callable[[Tensor, Tensor], Tensor], batch: int) -> Training:
    """Adam, a rate that rises and falls, gradients cut to norm 1."""
    return Training(
        loss, run.budget.epochs, batch, run.budget.rates, torch.optim.Adam, schedule=one_cycle, clip=1.0, widen=1
    )


def untrained() -> dict[str, Rival]:
    """Predictions without a network."""
    return {"zero": Rival(Black, trains=False), "copy last": Rival(CopyLast, trains=False)}


def horizons(run: Run[Budget]) -> tuple[int, int]:
    """Frames given, and frames predicted in a test; the fewest in a dry run."""
    return (1, 2) if run.dry else (run.budget.given, run.budget.ahead)


def cut(clips: Tensor, given: int) -> tuple[Tensor, Tensor]:
    """The frames that a prediction starts from, and all that follow."""
    return clips[:, :given], clips[:, given:]


# --- drifting digits -------------------------------------------------------------------------------------------------
def drift_rivals(run: Run[Budget]) -> dict[str, Rival]:
    """Networks with one read-out on several recurrences."""
    budget = run.budget
    c, size = budget.channels, budget.size

    def on(make: Callable[[], Recurrence], channels: int = c) -> Rival:
        return Rival(lambda: Predictor(make(), torus_decoder(channels, c), horizons(run)[0]))

    return {
        "FERNN, V1": on(partial(drift_recurrence, c, size, 1)),
        "FERNN, V2": on(partial(drift_recurrence, c, size, 2)),
        "G-RNN": on(partial(drift_recurrence, c, size, 0)),
        "G-RNN, wide": on(partial(drift_recurrence, 3 * c, size, 0), 3 * c),
        "G-RNN+": on(partial(learned_shifts, c, size, 1)),
        "ConvLSTM": on(partial(ConvLSTM, 2 * c), 4 * c),
        **untrained(),
    }


def drift_part(run: Run[Budget]) -> Part:
    """Two digits, each at its own velocity of up to 1; then both at one velocity out of 25, 16 of them never trained on."""
    budget, sizes = run.budget, run.sizes(run.budget.drift)
    given, ahead = horizons(run)
    digits = partial(drifting_digits, size=budget.size, pool=budget.pool)
    tested = velocity_grid(2)[:: 12 if run.dry else 1]

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(seed)
        train, spare = (
            cut(digits(n, 2 * given, velocity_grid(1), generator=generator).frames, given)
            for n in (sizes.train, sizes.validation)
        )
        long = digits(sizes.test, given + ahead, velocity_grid(1), split="test", generator=generator).frames
        # All velocities with the same digits in the same places.
        single = [
            digits(
                max(1, sizes.test // 4), 2 * given, nu[None], together=True, split="test",
                generator=Generator().manual_seed(seed),
            ).frames
            for nu in tested
        ]  # fmt: skip
        (x, y), (near, far) = cut(long, given), cut(torch.cat(single), given)
        return Split(train, spare, ({"own": x, "single": near}, {"own": y, "single": far}))

    def measure(model: nn.Module, x: Mapping[str, Tensor], y: Mapping[str, Tensor], _: Generator) -> dict[str, Any]:
        errors = frame_errors(model, x["own"], y["own"]).mean(0)
        by_velocity = frame_errors(model, x["single"], y["single"]).unflatten(0, (len(tested), -1)).mean((1, 2))
        seen = tested.abs().amax(-1).cpu() <= 1
        return {
            "MFLOP": megaflops(model, x["own"][:1], given),
            **{f"MSE at {frame}": float(errors[frame - 1]) for frame in budget.frames if frame <= len(errors)},
            "MSE, trained frames": float(errors[:given].mean()),
            "MSE, seen velocities": float(by_velocity[seen].mean()),
            "MSE, unseen": float(by_velocity[~seen].mean()),
            **{_cell(*nu): float(error) for nu, error in zip(tested.tolist(), by_velocity, strict=True)},
        }

    how = training(run, mse_loss, budget.batches[0])
    both = compare(
        "drift", drift_rivals(run), draw, how, measure, best="MSE, trained frames", run=run, validate=trained_frames
    )
    table, maps = _apart(both)
    others = [name for name in table.models if not name.startswith("FERNN")]
    late, unseen = f"MSE at {2 * given}", "MSE, unseen"
    claims = [
        table.beats(
            "drift-beats-grnn", "FERNN, V1", "G-RNN", late, by=0.5,
            statement=f"Drifting digits: squared error of FERNN V1, {TWICE}, over that of the G-RNN.",
        ),
        table.beats(
            "drift-beats-zero", "FERNN, V1", "zero", late, by=0.5,
            statement=f"Drifting digits: squared error of FERNN V1, {TWICE}, over that of black frames.",
        ),
        table.beats(
            "drift-beats-all", "FERNN, V1", others, late,
            statement=f"Drifting digits: squared error of FERNN V1, {TWICE}, over that of the best baseline.",
        ),
        table.beats(
            "drift-next-frame", "FERNN, V1", others, "MSE at 1",
            statement="Drifting digits: squared error of FERNN V1 on the next frame, over that of the best baseline.",
        ),
        table.ratio(
            "velocities-fernn",
            "Squared error of FERNN V2 on digits drifting with a component of 2, never trained on, over that of slower ones.",
            table["FERNN, V2", unseen], table["FERNN, V2", "MSE, seen velocities"], below=1.5,
        ),
        table.ratio(
            "velocities-grnn",
            "Squared error of the G-RNN on digits drifting with a component of 2, never trained on, over that of slower ones.",
            table["G-RNN", unseen], table["G-RNN", "MSE, seen velocities"], above=3,
        ),
        table.beats(
            "velocities-beat-all", "FERNN, V2", others, unseen, by=0.5,
            statement="Squared error of FERNN V2 on digits drifting with a component of 2, over that of the best baseline.",
        ),
    ]  # fmt: skip
    return Part([*table.rows, *maps.rows], claims, [*table.runs, *maps.runs])


def _cell(row: int, column: int) -> str:
    """The column of one velocity."""
    return f"velocity {row} {column}"


def _apart(both: Table) -> tuple[Table, Part]:
    """The table without the errors of single velocities, and these: for each model a row for each velocity of rows."""
    plain = [{k: v for k, v in row.items() if not k.startswith("velocity ")} for row in both.runs]
    maps: list[Table] = []
    for r in SPAN:
        cells = [
            {"model": run["model"], "seed": run["seed"], "rows": str(r)}
            | {f"columns {c}": run[_cell(r, c)] for c in SPAN if _cell(r, c) in run}
            for run in both.runs
        ]
        maps.append(Table("velocities", cells, both.run))
    rows = [table.rows[index] for index in range(len(both.models)) for table in maps]
    return Table(both.name, plain, both.run), Part(rows, (), [run for table in maps for run in table.runs])


# --- spinning digits -------------------------------------------------------------------------------------------------
def spin_rivals(run: Run[Budget]) -> dict[str, Rival]:
    """Networks of regular fields of C_8, with velocities and without."""
    f = run.budget.fields

    def on(fields: int, reach: int) -> Rival:
        return Rival(
            lambda: Predictor(spin_recurrence(fields, reach), turning_decoder(Cyclic(8), fields, f), horizons(run)[0])
        )

    wide = round(5**0.5 * f)  # a recurrence of five slices costs five times one of one, which grows with the square
    return {"FERNN": on(f, 2), "G-RNN": on(f, 0), "G-RNN, wide": on(wide, 0), **untrained()}


def spin_part(run: Run[Budget]) -> Part:
    """One digit that turns by -45, 0 or 45 degrees per frame, and, never trained on, by quarter turns per frame."""
    budget, sizes = run.budget, run.sizes(run.budget.spin)
    given, ahead = horizons(run)[0], 2 * horizons(run)[0]
    digits = partial(spinning_digits, pool=budget.pool)

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(seed)
        train, spare = (
            cut(digits(n, 2 * given, [-1, 0, 1], generator=generator).frames, given)
            for n in (sizes.train, sizes.validation)
        )
        tests = [
            cut(digits(sizes.test, given + ahead, steps, split="test", generator=generator).frames, given)
            for steps in ([-1, 0, 1], [-2, 2])
        ]
        (x, y), (near, far) = tests
        return Split(train, spare, ({"seen": x, "unseen": near}, {"seen": y, "unseen": far}))

    def measure(model: nn.Module, x: Mapping[str, Tensor], y: Mapping[str, Tensor], _: Generator) -> dict[str, Any]:
        errors, others = (frame_errors(model, x[name], y[name]).mean(0) for name in ("seen", "unseen"))
        return {
            "MFLOP": megaflops(model, x["seen"][:1], given),
            **{f"MSE at {frame}": float(errors[frame - 1]) for frame in budget.frames if frame <= len(errors)},
            "MSE, seen velocities": float(errors[:given].mean()),
            "MSE, unseen": float(others[:given].mean()),
        }

    how = training(run, mse_loss, budget.batches[1])
    best = "MSE, seen velocities"
    table = compare(
        "spin", spin_rivals(run), draw, how, measure, best=best, run=run,
        validate=lambda *given: {best: trained_frames(*given)["MSE, trained frames"]},
    )  # fmt: skip
    others = [name for name in table.models if name != "FERNN"]
    return table.part(
        table.beats(
            "spin-beats-all", "FERNN", others, f"MSE at {ahead}",
            statement=f"Spinning digits: squared error of FERNN, {TWICE}, over that of the best baseline.",
        ),
        table.beats(
            "spin-unseen", "FERNN", others, "MSE, unseen",
            statement="Squared error of FERNN on digits spinning by quarter turns per frame, never trained on, over that of the "
            "best baseline.",
        ),
    )  # fmt: skip


# --- classification --------------------------------------------------------------------------------------------------
def classes_part(run: Run[Budget]) -> Part:
    """Noisy clips of one digit, learned at rest; the same test digits at rest and drifting at speeds 1 and 2."""
    budget, sizes = run.budget, run.sizes(run.budget.classes)
    c, size, grid = budget.channels, budget.size, velocity_grid(2)

    def clips(
        n: int, velocities: Tensor, generator: Generator, split: Literal["train", "test"]
    ) -> tuple[Tensor, Tensor]:
        made = drifting_digits(
            n,
            2 if run.dry else CLIP,
            velocities,
            digits_each=1,
            size=size,
            pool=budget.pool,
            split=split,
            generator=generator,
        )
        return made.frames + NOISE * torch.randn(made.frames.shape, generator=generator), made.label[:, 0]

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(seed)
        train, spare = (clips(n, STILL, generator, "train") for n in (sizes.train, sizes.validation))
        # One source of random numbers for every speed: the same digits, places and noise.
        tests = [
            clips(sizes.test, grid[grid.abs().amax(-1) == speed], Generator().manual_seed(seed), "test")
            for speed in range(3)
        ]
        frames = {str(speed): x for speed, (x, _) in enumerate(tests)}
        return Split(train, ({"0": spare[0]}, spare[1]), (frames, tests[0][1]))

    def measure(model: nn.Module, x: Mapping[str, Tensor], y: Tensor, _: Generator) -> dict[str, Any]:
        found = {f"accuracy, drift {speed}": accuracy(model, frames, y, batch=20) for speed, frames in x.items()}
        return {"MFLOP": megaflops(model, x["0"][:1]), **found}

    rivals = {
        "FERNN, V2": Rival(lambda: Classifier(drift_recurrence(c, size, 2), budget.hidden)),
        "G-RNN": Rival(lambda: Classifier(drift_recurrence(c, size, 0), budget.hidden)),
        "G-RNN+": Rival(lambda: Classifier(learned_shifts(c, size, 1), budget.hidden)),
    }
    how = training(run, cross_entropy, budget.batches[2])
    table = compare("classes", rivals, draw, how, measure, best="accuracy, drift 0", run=run)

    def lost(name: str) -> Any:
        rest, slow, fast = (table[name, f"accuracy, drift {speed}"] for speed in range(3))
        return rest - slow.clip(max=fast)

    words = "trained on digits at rest, loses at the worse of drifts by 1 and by 2 pixels per frame."
    return table.part(
        table.bound("classes-fernn", f"Points of accuracy that FERNN V2, {words}", lost("FERNN, V2"), at_most=3),
        table.bound("classes-grnn", f"Points of accuracy that the G-RNN, {words}", lost("G-RNN"), at_least=20),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, drifting digits, spinning digits, classification."""
    unmeasured = [
        Claim.not_measurable(
            "published-moving-digits",
            "With the same velocities as the data, errors are an order of magnitude below those of a G-RNN.",
            published="order of magnitude on moving and rotating digits of 28 x 28; flat errors over long horizons",
            reason="needs 128 channels, 50 epochs of 60,000 digits and a GPU; small versions are above",
        ),
        Claim.not_measurable(
            "published-actions",
            "Human actions in drifting videos are classified better than without flow equivariance.",
            published="accuracy on KTH with added drift",
            reason="needs the KTH videos; classification of drifting digits is above",
        ),
    ]
    parts = (properties(run, *PROPERTIES), details_part(run), drift_part(run), spin_part(run), classes_part(run))
    return Result.of(*parts, Part(claims=unmeasured))


def figure(result: Result) -> Figure:
    """Errors by horizon, and of four models by velocity, on drifting digits; velocities begin at rest and wrap around."""
    from erlangen import plots

    drift: list[Any] = [row for row in result.rows if row["part"] == "drift" and row["model"] != "copy last"]
    ahead = sorted(
        int(column.removeprefix("MSE at "))
        for column in drift[0]
        if column.startswith("MSE at ") and not column.endswith("spread")
    )
    series = {row["model"]: [(float(h), row[f"MSE at {h}"]) for h in ahead] for row in drift}
    order = (0, 1, 2, -2, -1)
    cells: dict[tuple[str, int], Any] = {
        (str(row["model"]), int(str(row["rows"]))): row for row in result.rows if row["part"] == "velocities"
    }
    grids = {
        name: [[cells[name, r][f"columns {c}"] for c in order] for r in order]
        for name in ("FERNN, V2", "FERNN, V1", "G-RNN", "G-RNN+")
    }
    values = [value for grid in grids.values() for line in grid for value in line]
    steps, shades = [str(step) for step in order], (min(values), max(values))
    drawn, (*maps, below) = plots.panels(5)
    for ax, (name, grid) in zip(maps, grids.items(), strict=True):
        plots.heatmap(grid, steps, steps, "mean squared error", limits=shades, log=True, title=name, ax=ax)
        ax.set(xlabel="velocity of columns", ylabel="velocity of rows")
    plots.line(series, "frames ahead", "mean squared error", logy=True, xticks=ahead, ax=below)
    return drawn
