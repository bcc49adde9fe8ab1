"""Spinning digits: regular fields of C_8 with velocities and without."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from erlangen.data import spinning_digits
from erlangen.groups import Cyclic
from erlangen.survey import Part, Rival, Run, Split, compare
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
from erlangen.systems.images.fernn.method import Predictor, spin_recurrence, turning_decoder


def spin_rivals(run: Run[Any]) -> dict[str, Rival]:
    """Networks of regular fields of C_8, with velocities and without."""
    f = run.budget.fields

    def on(fields: int, reach: int) -> Rival:
        return Rival(
            lambda: Predictor(spin_recurrence(fields, reach), turning_decoder(Cyclic(8), fields, f), horizons(run)[0])
        )

    wide = round(5**0.5 * f)  # a recurrence of five slices costs five times one of one, which grows with the square
    return {"FERNN": on(f, 2), "G-RNN": on(f, 0), "G-RNN, wide": on(wide, 0), **untrained()}


def spin_part(run: Run[Any]) -> Part:
    """One digit that turns by -45, 0 or 45 degrees per frame, and, never trained on, by quarter turns per frame."""
    budget, sizes = run.budget, run.sizes(run.budget.spin)
    given, ahead = horizons(run)[0], 2 * horizons(run)[0]
    digits = partial(spinning_digits, pool=budget.pool)

    def draw(seed: int) -> Split:
        generator = Generator().manual_seed(FRESH + seed)
        train, spare = (
            cut(digits(n, 2 * given, [-1, 0, 1], generator=generator).frames, given)
            for n in (sizes.train, sizes.validation)
        )
        # The same digits, from the same start, at all velocities.
        tests = [
            cut(
                digits(
                    sizes.test, given + ahead, steps, split="test", generator=Generator().manual_seed(FRESH + seed)
                ).frames,
                given,
            )
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
            "spin-next-frame", "FERNN", others, "MSE at 1",
            statement="Spinning digits: squared error of FERNN on the next frame, over that of the best baseline.",
        ),
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
