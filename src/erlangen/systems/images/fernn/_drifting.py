"""Drifting digits: how far predictions hold, at which velocities, and how fast networks learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.data import drifting_digits
from erlangen.nn import velocity_grid
from erlangen.survey import Part, Rival, Run, Split, Table, Training, compare
from erlangen.systems.images.fernn._predictions import (
    FRESH,
    TWICE,
    cut,
    frame_errors,
    horizons,
    megaflops,
    trained_frames,
    training,
    untrained,
)
from erlangen.systems.images.fernn.method import Predictor, Recurrence, drift_recurrence, torus_decoder
from erlangen.systems.images.fernn.rivals import ConvLSTM, learned_shifts

Values = NDArray[np.float64]

OURS, COVERING, WIDE = "FERNN, V1", "FERNN, V2", "G-RNN, wide"
SPAN = range(-2, 3)
"""Velocities that are tested, of rows and of columns; those up to 1 are trained."""


def drift_rivals(run: Run[Any]) -> dict[str, Rival]:
    """Networks with one read-out on several recurrences."""
    budget = run.budget
    c, size = budget.channels, budget.size

    def on(make: Callable[[], Recurrence], channels: int = c) -> Rival:
        return Rival(lambda: Predictor(make(), torus_decoder(channels, c), horizons(run)[0]), fit=recorded)

    return {
        OURS: on(partial(drift_recurrence, c, size, 1)),
        COVERING: on(partial(drift_recurrence, c, size, 2)),
        "G-RNN": on(partial(drift_recurrence, c, size, 0)),
        WIDE: on(partial(drift_recurrence, 3 * c, size, 0), 3 * c),
        "G-RNN+": on(partial(learned_shifts, c, size, 1)),
        "ConvLSTM": on(partial(ConvLSTM, 2 * c), 4 * c),
        **untrained(),
    }


def drift_part(run: Run[Any]) -> Part:
    """Two digits, each at its own velocity of up to 1; then both at one velocity out of 25, 16 of them never trained on."""
    budget, sizes = run.budget, run.sizes(run.budget.drift)
    epochs = 1 if run.dry else budget.epochs
    given, ahead = horizons(run)
    digits = partial(drifting_digits, size=budget.size, pool=budget.pool)
    tested = velocity_grid(2)[:: 12 if run.dry else 1]

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(FRESH + seed)
        train, spare = (
            cut(digits(n, 2 * given, velocity_grid(1), generator=generator).frames, given)
            for n in (sizes.train, sizes.validation)
        )
        long = digits(sizes.test, given + ahead, velocity_grid(1), split="test", generator=generator).frames
        # All velocities with the same digits in the same places.
        single = [
            digits(
                max(1, sizes.test // 4), 2 * given, nu[None], together=True, split="test",
                generator=Generator().manual_seed(FRESH + seed),
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
            **{f"epoch {k + 1}": loss for k, loss in enumerate(getattr(model, "curve", []))},
        }

    how = training(run, mse_loss, budget.batches[0])
    both = compare(
        "drift", drift_rivals(run), draw, how, measure, best="MSE, trained frames", run=run, validate=trained_frames
    )
    table, maps, curves = _apart(both)
    others = [name for name in table.models if not name.startswith("FERNN")]
    trained = [name for name in curves.models if not name.startswith("FERNN")]
    late, last, unseen, seen = f"MSE at {2 * given}", f"MSE at {ahead}", "MSE, unseen", "MSE, seen velocities"
    losses = {name: np.stack([curves[name, f"epoch {k + 1}"] for k in range(epochs)]) for name in curves.models}
    best = min(trained, key=lambda name: float(losses[name].min(0).mean()))
    pace = {name: table[name, "seconds"] / epochs for name in (OURS, WIDE)}
    far = "at the last of the frames that are tested, far beyond those it was trained on,"
    claims = [
        *(
            table.beats(
                name, model, others, column,
                statement=f"Drifting digits: squared error of {model.replace(',', '')}, {words} over that of the best baseline.",
            )
            for name, model, column, words in (
                ("drift-next-frame", OURS, "MSE at 1", "on the next frame,"),
                ("drift-beats-all", OURS, late, f"{TWICE},"),
                ("drift-v2-beats-all", COVERING, late, f"{TWICE},"),
                ("drift-far-beats-all", OURS, last, far),
                ("drift-v2-far-beats-all", COVERING, last, far),
            )
        ),
        table.ratio(
            "velocities-fernn",
            "Squared error on digits drifting with a component of 2, never trained on, over that of slower ones: this ratio of "
            "FERNN V2, which covers them, over that of the G-RNN.",
            table[COVERING, unseen] / table[COVERING, seen], table["G-RNN", unseen] / table["G-RNN", seen], below=1,
        ),
        table.beats(
            "velocities-beat-all", COVERING, others, unseen,
            statement="Squared error of FERNN V2 on digits drifting with a component of 2, over that of the best baseline.",
        ),
        table.beats(
            "velocities-have-to-be-covered", COVERING, OURS, unseen,
            statement="Squared error on digits drifting with a component of 2, never trained on: FERNN V2, which covers them, "
            "over FERNN V1, which does not.",
        ),
        table.ratio(
            "trains-faster",
            "Drifting digits: epochs until the training loss of FERNN V1 is below the lowest of the best baseline, over the "
            "epochs that this baseline needs for it.",
            epochs_until(losses[OURS], losses[best].min(0)), epochs_until(losses[best], losses[best].min(0)), below=1,
        ),
        table.ratio(
            "trains-faster-in-time",
            "Drifting digits: processor time until the training loss of FERNN V1 is below the lowest of the wide G-RNN, which "
            "costs as many operations, over the time that the G-RNN needs for it.",
            pace[OURS] * epochs_until(losses[OURS], losses[WIDE].min(0)),
            pace[WIDE] * epochs_until(losses[WIDE], losses[WIDE].min(0)),
            below=1,
        ),
    ]  # fmt: skip
    return Part([*table.rows, *maps.rows, *curves.rows], claims, [*table.runs, *maps.runs, *curves.runs])


def recorded(model: nn.Module, split: Split, rate: float, how: Training, generator: Generator) -> None:
    """Train as all do, and keep the training loss of every epoch."""
    history = how.fit(model, split, rate, generator).history
    vars(model)["curve"] = [epoch["loss"] for epoch in history]


def epochs_until(losses: Values, level: Values) -> Values:
    """The first epoch, counted from 1, whose loss ``[epochs, seeds]`` is at most the level ``[seeds]``; infinite without one."""
    reached = losses <= level
    return np.where(reached.any(0), reached.argmax(0) + 1.0, np.inf)


def _cell(row: int, column: int) -> str:
    """The column of one velocity."""
    return f"velocity {row} {column}"


def _apart(both: Table) -> tuple[Table, Part, Table]:
    """The table without errors of single velocities and losses of epochs; a row for each velocity of rows; the losses."""
    plain = [{k: v for k, v in row.items() if not k.startswith(("velocity ", "epoch "))} for row in both.runs]
    maps: list[Table] = []
    for r in SPAN:
        cells = [
            {"model": run["model"], "seed": run["seed"], "rows": str(r)}
            | {f"columns {c}": run[_cell(r, c)] for c in SPAN if _cell(r, c) in run}
            for run in both.runs
        ]
        maps.append(Table("velocities", cells, both.run))
    rows = [table.rows[index] for index in range(len(both.models)) for table in maps]
    losses = [
        {"model": run["model"], "seed": run["seed"]} | {k: v for k, v in run.items() if k.startswith("epoch ")}
        for run in both.runs
        if "epoch 1" in run
    ]
    curves = Table("training loss", losses, both.run)
    return Table(both.name, plain, both.run), Part(rows, (), [run for table in maps for run in table.runs]), curves
