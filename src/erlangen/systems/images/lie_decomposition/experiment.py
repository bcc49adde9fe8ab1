"""What is measured of Lie group decompositions: properties, and digits under distortions that training has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from erlangen.data import affine_distortion, digits, homography_distortion
from erlangen.groups import SL, SO, GLPlus, LinearGroup, PolarSampler, TrivialGroup
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, bound, compare, largest, properties
from erlangen.systems.images.lie_decomposition._properties import PROPERTIES, details_part, rng
from erlangen.systems.images.lie_decomposition.method import LieGroupCNN
from erlangen.systems.images.lie_decomposition.rivals import PartialCNN, PlainCNN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANVAS = 28
DRAWS = 4
"""Random draws of elements whose answers a test averages."""
STILL: dict[str, Any] = {"degrees": 0.0, "shear": 0.0, "scale": (1.0, 1.0)}
PARTS = {"digits": ("clean", "affine", "homography"), "full circle": ("clean", "affine", "turned")}
"""Tests of the two comparisons."""
AFFINE, PERSPECTIVE, TURNED = "error, affine", "error, homography", "error, turned"
ONE_DRAW = "error, affine, one draw"


@dataclass(frozen=True)
class Circle:
    """What the part with rotations of the full circle spends: few digits, but as many elements of H as the paper has."""

    digits: Sizes
    epochs: int
    batch: int = 16
    elements: int = 10
    few: int = 3
    width: int = 8
    plain_width: int = 10
    hidden: tuple[int, ...] = (36,)


@dataclass(frozen=True)
class Budget:
    """What a run spends: samples of the properties, then digits and the networks on them.

    Attributes:
        haar_samples, rootless_samples: of the integrals over a group.
        samples: in how many samples errors are compared.
        circle: the part with rotations of the full circle.
        elements: of H, in each layer.
        width, plain_width, hidden: channels of the networks, and hidden layers of the kernels.
    """

    seeds: int
    haar_samples: int
    rootless_samples: int
    samples: tuple[int, ...]
    digits: Sizes
    epochs: int
    circle: Circle
    batch: int = 32
    elements: int = 3
    width: int = 16
    plain_width: int = 20
    hidden: tuple[int, ...] = (36,)


BUDGETS = {
    "smoke": Budget(1, 30_000, 100_000, (16, 64, 256), Sizes(96, 20, 40), 1, Circle(Sizes(32, 20, 20), 1)),
    "full": Budget(
        3, 400_000, 800_000, (16, 64, 256, 1024), Sizes(2500, 500, 1000), 20, Circle(Sizes(1000, 300, 1000), 20)
    ),
    "paper": Budget(
        5,
        400_000,
        800_000,
        (16, 64, 256, 1024),
        Sizes(7500, 500, 2000),
        50,
        Circle(Sizes(7500, 500, 2000), 50, 128, width=40, plain_width=64, hidden=(60, 60)),
        128,
        10,
        40,
        64,
        (60, 60),
    ),
}


# --- digits ----------------------------------------------------------------------------------------------------------
def halved(x: Tensor) -> Tensor:
    """Means over 2 x 2 pixels."""
    return avg_pool2d(x, 2)


def placed(x: Tensor, seed: int) -> Tensor:
    """Digits moved at random on the canvas, otherwise as they are; then at half resolution."""
    return halved(affine_distortion(x, size=CANVAS, **STILL, generator=rng(seed)))


def as_placed(x: dict[str, Tensor], y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Digits where they were placed before the training."""
    return x["placed"], y


def distorted(x: dict[str, Tensor], y: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Digits under the maps of the affine test, new ones in each step."""
    return halved(affine_distortion(x["raw"], size=CANVAS, generator=generator)), y


SL2, GL2, ROTATIONS, NO_GROUP, PLAIN, AUGMENTED = "SL(2)", "GL+(2)", "SO(2)", "no group", "CNN", "CNN, augmented"


def make_rivals(budget: Budget) -> dict[str, Rival]:
    """Networks on three groups and on none, and the plain one without and with the distortions of the test in its training."""

    def on(group: LinearGroup, elements: int = budget.elements) -> LieGroupCNN:
        return LieGroupCNN(
            group,
            width=(budget.width, 64),
            samples=elements,
            eval_samples=elements,
            sampler=PolarSampler(group, 0.02, angle=0.4),
            hidden=budget.hidden,
            mask="sigmoid",
        )

    def plain() -> PlainCNN:
        return PlainCNN(width=(budget.plain_width, 64))

    return {
        SL2: Rival(lambda: on(SL(2)), as_placed),
        GL2: Rival(lambda: on(GLPlus(2)), as_placed),
        ROTATIONS: Rival(lambda: on(SO(2)), as_placed),
        NO_GROUP: Rival(lambda: on(TrivialGroup(2), 1), as_placed),
        PLAIN: Rival(plain, as_placed),
        AUGMENTED: Rival(plain, distorted),
    }


WHOLE, PARTIAL, LOGARITHM = "SL(2), whole chart", "SL(2), where logarithms exist", "SL(2), logarithm"
SHARED, FEW, CIRCLE_PLAIN = "SL(2), one draw for all layers", "SL(2), three elements, one draw", "CNN"


def circle_rivals(circle: Circle) -> dict[str, Rival]:
    """Networks with elements drawn as the authors do, whose quotients may have no logarithm, and what they do without."""

    def options(elements: int, fresh: bool = True) -> dict[str, Any]:
        return {
            "width": (circle.width, 64),
            "samples": elements,
            "eval_samples": elements,
            "sampler": PolarSampler(SL(2), 0.1, rotations="equidistant"),
            "fresh": fresh,
            "hidden": circle.hidden,
            "mask": "sigmoid",
        }

    many, few = circle.elements, circle.few
    return {
        WHOLE: Rival(lambda: LieGroupCNN(SL(2), **options(many)), as_placed),
        PARTIAL: Rival(lambda: PartialCNN(logarithm=False, **options(many)), as_placed),
        LOGARITHM: Rival(lambda: PartialCNN(logarithm=True, **options(many)), as_placed),
        SHARED: Rival(lambda: LieGroupCNN(SL(2), **options(many, False)), as_placed),
        FEW: Rival(lambda: LieGroupCNN(SL(2), **options(few, False)), as_placed),
        CIRCLE_PLAIN: Rival(lambda: PlainCNN(width=(circle.plain_width, 64)), as_placed),
    }


@bound(at_most=1.1)
def equal_parameters(run: Run[Budget]) -> float:
    """Most over fewest parameters of the networks that are compared, in each of the two comparisons; the larger ratio."""
    worst = 1.0
    for rivals in (make_rivals(run.budget), circle_rivals(run.budget.circle)):
        sizes = [sum(p.numel() for p in rival.make().parameters()) for rival in rivals.values()]
        worst = largest(worst, max(sizes) / min(sizes))
    return worst


@torch.no_grad()
def error(model: nn.Module, x: Tensor, y: Tensor, draws: int = DRAWS) -> float:
    """Percent of wrong answers; those of a network on a group are means of logits over draws of its elements."""
    generator, logits = rng(0), torch.zeros((), device=x.device)
    for _ in range(draws if isinstance(model, LieGroupCNN) else 1):
        if isinstance(model, LieGroupCNN):
            model.resample(model.eval_samples, generator=generator)
        logits = logits + torch.cat([model(part) for part in x.split(250)])
    return 100 * float((logits.argmax(-1) != y).double().mean())


def draw(run: Run[Budget], sizes: Sizes, seed: int) -> Split:
    """Digits that train and choose where they stand upright; the last ones of the test set, on which nothing was chosen."""
    sizes = run.sizes(sizes)
    pool, held = digits("train"), digits("test")
    order = torch.randperm(len(pool.x), generator=rng(seed))
    chosen, spare = order[: sizes.train], order[-sizes.validation :]
    x, y = held.x[-sizes.test :], held.y[-sizes.test :]
    tests = {
        "clean": placed(x, seed + 102),
        "affine": halved(affine_distortion(x, size=CANVAS, generator=rng(seed + 103))),
        "homography": halved(homography_distortion(x, size=CANVAS, generator=rng(seed + 104))),
        "turned": halved(affine_distortion(x, size=CANVAS, degrees=180.0, generator=rng(seed + 105))),
    }
    train = {"placed": placed(pool.x[chosen], seed), "raw": pool.x[chosen]}
    return Split(
        (train, pool.y[chosen]),
        ({"clean": placed(pool.x[spare], seed + 1)}, pool.y[spare]),
        (tests, y),
    )


def measure(
    model: nn.Module, x: dict[str, Tensor], y: Tensor, generator: Generator, *, tests: tuple[str, ...]
) -> Mapping[str, float]:
    """Errors in percent, and that of one draw of elements."""
    row = {f"error, {test}": error(model, x[test], y) for test in tests if test in x}
    if isinstance(model, LieGroupCNN) and "affine" in x:
        row[ONE_DRAW] = error(model, x["affine"], y, draws=1)
    return row


def digits_part(run: Run[Budget]) -> Part:
    """Digits: learned where they stand upright, tested so, under affine maps, and under changes of perspective."""
    budget = run.budget
    how = Training(cross_entropy, budget.epochs, budget.batch, rates=(6e-3, 3e-3), decay=5e-3)
    watch = partial(measure, tests=PARTS["digits"])
    data = partial(draw, run, budget.digits)
    table = compare("digits", make_rivals(budget), data, how, watch, best="error, clean", run=run)
    return table.part(
        table.beats("sl2-against-cnn", SL2, PLAIN, AFFINE),
        table.beats("gl2-against-cnn", GL2, PLAIN, AFFINE),
        table.ratio(
            "sl2-one-draw-against-cnn",
            "Digits: error under affine maps of SL(2) with one draw of elements over that of CNN; smaller is better.",
            table[SL2, ONE_DRAW],
            table[PLAIN, AFFINE],
            below=1,
        ),
        table.beats("sl2-against-rotations", SL2, ROTATIONS, AFFINE),
        table.beats("gl2-against-rotations", GL2, ROTATIONS, AFFINE),
        table.beats("sl2-against-no-group", SL2, NO_GROUP, AFFINE),
        table.beats("sl2-against-cnn-homography", SL2, PLAIN, PERSPECTIVE),
        table.beats("sl2-against-augmented", SL2, AUGMENTED, AFFINE),
    )


def circle_part(run: Run[Budget]) -> Part:
    """Elements with rotations of the full circle: digits are tested under affine maps with any angle."""
    circle = run.budget.circle
    how = Training(cross_entropy, circle.epochs, circle.batch, rates=(6e-3, 3e-3), decay=5e-3)
    watch = partial(measure, tests=PARTS["full circle"])
    data = partial(draw, run, circle.digits)
    table = compare("full circle", circle_rivals(circle), data, how, watch, best="error, clean", run=run)
    return table.part(
        table.beats("circle-against-logarithm", WHOLE, LOGARITHM, TURNED),
        table.beats("circle-needs-all-pairs", WHOLE, PARTIAL, TURNED),
        table.beats("circle-against-cnn", WHOLE, CIRCLE_PLAIN, TURNED),
        table.beats("ten-elements-against-three", SHARED, FEW, TURNED),
        table.beats("own-draws-against-one", WHOLE, SHARED, TURNED),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, what they sum up, and digits."""
    unmeasured = Claim.not_measurable(
        "published-affnist",
        "Best accuracy on affNIST among equivariant and capsule networks, with all of MNIST in training.",
        published="reported as best of all compared",
        reason="needs 60 000 digits and 50 epochs on a GPU, and capsule networks, none of which is here; a small version with "
        "networks on rotations, by the logarithm and without a group is above",
    )
    parts = (
        properties(run, *PROPERTIES, equal_parameters),
        details_part(run),
        digits_part(run),
        circle_part(run),
    )
    return Result.of(*parts, Part(claims=[unmeasured]))


def figure(result: Result) -> Figure:
    """Errors on digits by test: of the groups on the left, with rotations of the full circle on the right."""
    from erlangen import plots

    drawn, axes = plots.panels(2)
    for ax, (part, tests) in zip(axes, PARTS.items(), strict=True):
        rows: list[Any] = [row for row in result.rows if row["part"] == part]
        errors = {test: [row[f"error, {test}"] for row in rows] for test in tests}
        plots.barh(errors, [str(row["model"]) for row in rows], f"{part}: error in percent", ax=ax)
    return drawn
