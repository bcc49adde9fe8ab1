"""What is measured of Lie group decompositions: properties, and digits under distortions that training has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from erlangen.data import affine_distortion, digits, homography_distortion
from erlangen.groups import SL, SO, GLPlus, LinearGroup, PolarSampler
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, bound, compare, properties
from erlangen.systems.images.lie_decomposition._properties import PROPERTIES, details_part, rng
from erlangen.systems.images.lie_decomposition.method import LieGroupCNN
from erlangen.systems.images.lie_decomposition.rivals import PlainCNN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CANVAS = 28
DRAWS = 4
"""Random draws of elements whose answers a test averages."""
STILL: dict[str, Any] = {"degrees": 0.0, "shear": 0.0, "scale": (1.0, 1.0)}
TESTS = ("clean", "affine", "homography")


@dataclass(frozen=True)
class Budget:
    """What a run spends: samples of the properties, then digits and the networks on them.

    Attributes:
        haar_samples, rootless_samples: of the integrals over a group.
        samples: in how many samples errors are compared.
        elements: of H, in each layer.
        width, plain_width, hidden: channels of the networks, and hidden layers of the kernels.
    """

    seeds: int
    haar_samples: int
    rootless_samples: int
    samples: tuple[int, ...]
    digits: Sizes
    epochs: int
    batch: int = 32
    elements: int = 3
    width: int = 16
    plain_width: int = 20
    hidden: tuple[int, ...] = (36,)


BUDGETS = {
    "smoke": Budget(1, 30_000, 100_000, (16, 64, 256), Sizes(96, 20, 40), 1),
    "full": Budget(3, 400_000, 800_000, (16, 64, 256, 1024), Sizes(4000, 500, 1000), 20),
    "paper": Budget(5, 400_000, 800_000, (16, 64, 256, 1024), Sizes(7500, 500, 2000), 50, 128, 10, 40, 64, (60, 60)),
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


def make_rivals(budget: Budget) -> dict[str, Rival]:
    """Networks on three groups, and the plain one without and with the distortions of the test in its training."""

    def on(group: LinearGroup) -> LieGroupCNN:
        return LieGroupCNN(
            group,
            width=(budget.width, 64),
            samples=budget.elements,
            eval_samples=budget.elements,
            sampler=PolarSampler(group, 0.02, angle=0.4),
            hidden=budget.hidden,
            mask="sigmoid",
        )

    def plain() -> PlainCNN:
        return PlainCNN(width=(budget.plain_width, 64))

    return {
        "SL(2)": Rival(lambda: on(SL(2)), as_placed),
        "GL+(2)": Rival(lambda: on(GLPlus(2)), as_placed),
        "SO(2)": Rival(lambda: on(SO(2)), as_placed),
        "CNN": Rival(plain, as_placed),
        "CNN, augmented": Rival(plain, distorted),
    }


@bound(at_most=1.1)
def equal_parameters(run: Run[Budget]) -> float:
    """Most over fewest parameters of the networks that are compared."""
    sizes = [sum(p.numel() for p in rival.make().parameters()) for rival in make_rivals(run.budget).values()]
    return max(sizes) / min(sizes)


@torch.no_grad()
def error(model: nn.Module, x: Tensor, y: Tensor, draws: int = DRAWS) -> float:
    """Percent of wrong answers; those of a network on a group are means of logits over draws of its elements."""
    generator, logits = rng(0), torch.zeros((), device=x.device)
    for _ in range(draws if isinstance(model, LieGroupCNN) else 1):
        if isinstance(model, LieGroupCNN):
            model.resample(model.eval_samples, generator=generator)
        logits = logits + torch.cat([model(part) for part in x.split(250)])
    return 100 * float((logits.argmax(-1) != y).double().mean())


def digits_part(run: Run[Budget]) -> Part:
    """Digits: learned where they stand upright, tested so, under affine maps, and under changes of perspective."""
    budget, sizes = run.budget, run.sizes(run.budget.digits)

    def draw(seed: int) -> Split:
        pool, held = digits("train"), digits("test")
        order = torch.randperm(len(pool.x), generator=rng(seed))
        chosen, spare = order[: sizes.train], order[-sizes.validation :]
        x, y = held.x[: sizes.test], held.y[: sizes.test]
        tests = {
            "clean": placed(x, seed + 2),
            "affine": halved(affine_distortion(x, size=CANVAS, generator=rng(seed + 3))),
            "homography": halved(homography_distortion(x, size=CANVAS, generator=rng(seed + 4))),
        }
        train = {"placed": placed(pool.x[chosen], seed), "raw": pool.x[chosen]}
        return Split(
            (train, pool.y[chosen]),
            ({"clean": placed(pool.x[spare], seed + 1)}, pool.y[spare]),
            (tests, y),
        )

    def measure(model: nn.Module, x: dict[str, Tensor], y: Tensor, generator: Generator) -> Mapping[str, float]:
        row = {f"error, {test}": error(model, pictures, y) for test, pictures in x.items()}
        if isinstance(model, LieGroupCNN) and "affine" in x:
            row["error, affine, one draw"] = error(model, x["affine"], y, draws=1)
        return row

    how = Training(cross_entropy, budget.epochs, budget.batch, rates=(6e-3, 3e-3), decay=5e-3)
    table = compare("digits", make_rivals(budget), draw, how, measure, best="error, clean", run=run)
    affine, perspective = "error, affine", "error, homography"
    return table.part(
        table.beats("sl2-against-cnn", "SL(2)", "CNN", affine, by=0.6),
        table.beats("gl2-against-cnn", "GL+(2)", "CNN", affine, by=0.6),
        table.beats("sl2-against-rotations", "SL(2)", "SO(2)", affine),
        table.beats("sl2-against-cnn-homography", "SL(2)", "CNN", perspective),
    )


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, what they sum up, and digits."""
    unmeasured = Claim.not_measurable(
        "published-affnist",
        "Best accuracy on affNIST among equivariant and capsule networks, with all of MNIST in training.",
        published="reported as best of all compared",
        reason="needs 60 000 digits and 50 epochs on a GPU; a small version is above",
    )
    parts = (properties(run, *PROPERTIES, equal_parameters), details_part(run), digits_part(run))
    return Result.of(*parts, Part(claims=[unmeasured]))


def figure(result: Result) -> Figure:
    """Error of each method on clean, affinely distorted and projectively distorted digits."""
    from erlangen import plots

    rows: list[Any] = [row for row in result.rows if row["part"] == "digits"]
    # Runs of version 0.1.0 have percent of right answers, under the names of the tests.
    errors = {test: [row.get(f"error, {test}", 100 - row.get(test, 0.0)) for row in rows] for test in TESTS}
    return plots.barh(errors, [str(row.get("model") or row["method"]) for row in rows], "error in percent")
