"""What is measured of neural collapse: optima with free features, gradient descent on them, and networks on digits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Generator
from torch.nn.functional import mse_loss

from erlangen.survey import Claim, Part, Result, Run, Training, averaged, compare, properties, sweep
from erlangen.survey.tables import Table
from erlangen.systems.learning.neural_collapse._digits import (
    EVEN,
    STEPPED,
    TAILED,
    Case,
    Pictures,
    by_cut,
    deepest,
    over,
)
from erlangen.systems.learning.neural_collapse._free import descend_by_momentum
from erlangen.systems.learning.neural_collapse._properties import (
    DECAY,
    PROPERTIES,
    cross_entropy_part,
    minority_part,
    simplex,
)
from erlangen.systems.learning.neural_collapse.method import code_value, optimal_geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {"W": "weights", "H": "class means", "WH": "products of both"}
FRAMES = {"predicted": "predicted frame", "simplex": "simplex", "orthogonal": "orthonormal frame"}
TRAINED = (1, 3)
"""Linear layers of the networks on digits."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        dims, starts: widths of the problems that L-BFGS solves, and how often each is begun.
        code_starts: how often the cross-entropy's are begun.
        shares: of the threshold beyond which the smallest class vanishes.
        steps, depths: of gradient descent on free features: steps, and numbers of linear layers.
        width, wide: of even and uneven classes there.
        pictures: digits and networks on them.
    """

    seeds: int
    dims: tuple[int, ...]
    starts: int
    code_starts: int
    shares: tuple[float, ...]
    steps: int
    depths: tuple[int, ...]
    width: int
    wide: int
    pictures: Pictures


AROUND = (0.7, 0.95, 1.05, 1.2, 1.6)
BUDGETS = {
    "smoke": Budget(1, (8,), 1, 1, (0.95, 1.2), 40, (1, 3), 16, 16, Pictures(0.1, 200, 1, 32, 2, 100)),
    "full": Budget(3, (8, 64), 3, 6, AROUND, 4000, (1, 3, 6), 64, 64, Pictures(1.0, 2000, 3, 128, 100, 100)),
    "paper": Budget(
        *(3, (8, 64), 3, 20, AROUND, 30_000, (1, 3, 6), 64, 2048),
        Pictures(1.0, 10_000, 6, 2048, 12_000, 3000, rates=(1e-3, 3e-4, 1e-4), resized=True),
    ),
}


# --- gradient descent on free features -------------------------------------------------------------------------------
def free_part(run: Run[Budget]) -> Part:
    """The authors' synthetic training: how far the metrics fall, and which frame they end nearest to, at the worst cut."""
    budget = run.budget
    kinds: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
        "even": ((100,) * 4, budget.width, {}),
        "even, bias": ((100,) * 4, budget.width, {"bias": True}),
        "uneven": ((200, 100, 50, 50), budget.wide, {}),
        "cross-entropy": ((100,) * 4, budget.width, {"bias": True, "loss": "cross-entropy"}),
    }

    def trained(kind: str, layers: int, seed: int) -> Mapping[str, Any]:
        counts, dim, options = kinds[kind]
        how: dict[str, Any] = {
            "dim": dim,
            "steps": budget.steps,
            "generator": Generator().manual_seed(seed),
        }
        before, after = descend_by_momentum(counts, layers, decay=DECAY, **how, **options)
        predicted = optimal_geometry(counts, layers, decay=DECAY, feature_decay=DECAY, bias="bias" in options)
        value = code_value(simplex(4), 100, layers)[0] if "loss" in options else predicted.loss
        first, last = (by_cut(one.head, one.features, one.labels, predicted) for one in (before, after))
        falls = ["NC1", *(f"{part} to predicted" for part in PARTS)]
        fallen = {
            f"{key}, after over before": max(b[key] / a[key] for a, b in zip(first, last, strict=True)) for key in falls
        }
        return {"value over prediction": after.value / value} | deepest(last) | fallen

    cases = list(itertools.product(kinds, budget.depths))
    table = sweep("free features", {f"{k}, M = {M}": partial(trained, k, M) for k, M in cases}, run=run)

    def fell(name: str, kind: str, depths: Sequence[int], words: str) -> Claim:
        keys = ["NC1", *(f"{part} to predicted" for part in PARTS)]
        values = np.max(
            [table[f"{kind}, M = {M}", f"{key}, after over before"] for M in depths for key in keys], axis=0
        )
        text = f"Largest ratio of NC1, NC2 and NC3 after and before training, {words}, every cut."
        return table.ratio(
            name,
            text,
            values,
            np.ones_like(values),
            below=0.1,
            published="plots: they fall by orders of magnitude",
        )

    def closer(name: str, kind: str, near: str, far: str, parts: Sequence[str], words: str) -> Claim:
        models = [f"{kind}, M = {M}" for M in budget.depths]
        return nearer(table, name, models, near, far, parts, words)

    deep = [M for M in budget.depths if M > 1]
    entropy = np.min([table[f"cross-entropy, M = {M}", "value over prediction"] for M in deep], axis=0)
    entropy = np.full_like(entropy, entropy.min())  # one seed below it is enough to refute a lowest value
    squares, both = "even classes, squared error", tuple(PARTS)
    return table.part(
        fell("free-even-falls", "even", budget.depths, f"{squares}, no bias"),
        fell("free-bias-falls", "even, bias", budget.depths, f"{squares}, bias"),
        fell("free-uneven-falls", "uneven", budget.depths, "uneven classes, squared error, no bias"),
        fell("free-cross-entropy-falls", "cross-entropy", [1], "even classes, cross-entropy, one layer"),
        fell("free-cross-entropy-deep-falls", "cross-entropy", deep, "even classes, cross-entropy, several layers"),
        table.bound(
            "free-cross-entropy-deep-simplex-lowest",
            "Smallest cross-entropy that gradient descent reaches with several layers in any seed, over that of the simplex.",
            entropy,
            at_least=1,
        ),
        closer("free-even-orthogonal", "even", "orthogonal", "simplex", ["W"], f"{squares}, no bias"),
        closer("free-bias-simplex", "even, bias", "simplex", "orthogonal", both, f"{squares}, bias"),
        closer("free-uneven-not-simplex", "uneven", "predicted", "simplex", both, "uneven classes, no bias"),
        closer("free-uneven-not-orthogonal", "uneven", "predicted", "orthogonal", both, "uneven classes, no bias"),
    )


def nearer(
    table: Table, name: str, models: Sequence[str], near: str, far: str, parts: Sequence[str], words: str
) -> Claim:
    """That models end nearer to one frame than to another: the worst ratio over models and parts."""
    ratios = np.max([table[m, over(p, near, far)] for m in models for p in parts], axis=0)
    spoken = ", ".join(PARTS[part] for part in parts)
    text = f"Distance to the {FRAMES[near]} over that to the {FRAMES[far]}, {words}: {spoken}, the worst of all depths and cuts."
    return table.ratio(name, text, ratios, np.ones_like(ratios), below=1)


# --- digits ----------------------------------------------------------------------------------------------------------
def digits_part(run: Run[Budget], name: str, full: Sequence[int], cases: Sequence[Case]) -> tuple[Table, Part]:
    """Networks on digits of given counts, and their metrics while they train."""
    pictures = run.budget.pictures
    counts = pictures.counts(full, run)
    how = Training(mse_loss, pictures.epochs, pictures.batch, rates=pictures.rates, widen=1)
    compared = compare(
        name,
        {case.name: pictures.rival(case, counts) for case in cases},
        lambda seed: pictures.draw(seed, full, run),
        how,
        pictures.measure,
        best="objective",
        run=run,
        validate=pictures.chosen_by,
    )
    rows: list[dict[str, Any]] = []
    for model in compared.models:
        curves = [row["curve"] for row in compared.runs if row["model"] == model]
        rows += [averaged(moments, part=f"{name}, over time", model=model) for moments in zip(*curves, strict=True)]
    plain = [{key: value for key, value in row.items() if key not in ("curve", "part")} for row in compared.runs]
    return Table(name, plain, run), Part(rows)


def decayed_beats(table: Table, name: str, column: str, words: str) -> Claim:
    """That decay brings networks nearer: the ratio to the same network without it, the worse of the depths."""
    pairs = [(Case(M).name, Case(M, decayed=False).name) for M in TRAINED]
    ratios = np.max([table[a, column] / table[b, column] for a, b in pairs], axis=0)
    text = f"{words}, over the same network's without decay, the worse of one and three layers, each at its worst cut."
    return table.ratio(name, text, ratios, np.ones_like(ratios), below=1)


def uneven_part(run: Run[Budget], name: str, full: Sequence[int], words: str) -> tuple[Part, Part]:
    """Uneven classes without a bias: the predicted frame against the simplex, the orthonormal one, and no decay."""
    cases = [Case(M, decayed=decayed) for M in TRAINED for decayed in (True, False)]
    table, curves = digits_part(run, name, full, cases)
    mine = [Case(M).name for M in TRAINED]
    claims = [
        nearer(table, f"{name}-{spoken}-not-{far}", mine, "predicted", far, [part], f"digits, {words}")
        for part, spoken in (("W", "weights"), ("H", "means"), ("WH", "products"))
        for far in ("simplex", "orthogonal")
        if (part, far) != ("WH", "simplex")  # that the products are none nearly follows from fitting the labels
    ]
    sayings = {
        "W": "Distance of the weights to the predicted frame",
        "H": "Distance of the class means to the predicted frame",
    }
    for part, text in sayings.items():
        told = f"{text}, digits, {words}"
        claims.append(decayed_beats(table, f"{name}-{PARTS[part].split()[-1]}-decay", f"{part} to predicted", told))
    return table.part(*claims), curves


def even_part(run: Run[Budget]) -> tuple[Part, Part]:
    """Even classes: orthonormal without a bias, a simplex with it, and no decay."""
    cases = [case for M in TRAINED for case in (Case(M), Case(M, bias=True), Case(M, decayed=False))]
    table, curves = digits_part(run, "even", EVEN, cases)
    plain, biased = [Case(M).name for M in TRAINED], [Case(M, bias=True).name for M in TRAINED]
    told = "digits, even classes"
    claims = [
        nearer(table, "even-orthogonal", plain, "orthogonal", "simplex", ["W"], f"{told}, no bias"),
        nearer(table, "even-bias-simplex", biased, "simplex", "orthogonal", tuple(PARTS), f"{told}, bias"),
        decayed_beats(
            table, "even-weights-decay", "W to predicted", f"Distance of the weights to the predicted frame, {told}"
        ),
        decayed_beats(
            table, "even-means-decay", "H to predicted", f"Distance of the class means to the predicted frame, {told}"
        ),
        decayed_beats(table, "even-points-decay", "NC1", f"NC1, {told}"),
    ]
    return table.part(*claims), curves


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Optima with free features, gradient descent on them, and networks on digits; a dry run solves small problems."""
    unmeasured = Claim.not_measurable(
        "published-networks",
        "ResNet18, VGG16 and networks of width 2048 on CIFAR-10 end in the predicted frames.",
        published="plots of NC1 to NC3 over the training",
        reason="needs CIFAR-10 and a GPU; smaller networks on digits are above",
    )
    few = replace(run, budget=BUDGETS["smoke"]) if run.dry else run
    return Result.of(
        properties(few, *PROPERTIES),
        cross_entropy_part(few),
        minority_part(few),
        free_part(few),
        *uneven_part(run, "stepped", STEPPED, "the authors' uneven classes"),
        *uneven_part(run, "tailed", TAILED, "a long tail"),
        *even_part(run),
        Part(claims=[unmeasured]),
    )


def figure(result: Result) -> Figure:
    """Distance of the weights to the three frames while a network with three linear layers learns the authors' uneven digits."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] == "stepped, over time"]
    decayed, bare = ([row for row in rows if row["model"] == Case(3, decayed=on).name] for on in (True, False))
    curves = {f"to {FRAMES[frame]}": [(row["epoch"], row[f"W to {frame}"]) for row in decayed] for frame in FRAMES}
    curves["no decay, to predicted frame"] = [(row["epoch"], row["W to predicted"]) for row in bare]
    return plots.line(curves, "epoch", "distance of the weights, three linear layers", logy=True)
