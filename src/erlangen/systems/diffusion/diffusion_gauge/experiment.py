"""What is measured of gauge freedom: laws that hold exactly, exact scores with gauge fields, trained fields and their parts,
intrinsic dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from erlangen.generate import denoising_loss, energy_distance, noise_levels, sliced_wasserstein
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Table, Training, compare, properties, sweep
from erlangen.systems.diffusion.diffusion_gauge._properties import (
    PROPERTIES,
    QUARTER,
    bumps,
    grid,
    likelihood_errors,
    mixture_of,
    mixture_score,
    same_law,
    sampled,
    skew,
)
from erlangen.systems.diffusion.diffusion_gauge.data import DIMENSIONS, points, small_digits
from erlangen.systems.diffusion.diffusion_gauge.method import (
    Turned,
    conservativity,
    galerkin_split,
    gradients,
    intrinsic_dimension,
)
from erlangen.systems.diffusion.diffusion_gauge.rivals import (
    ESTIMATORS,
    Neighbours,
    by_score_svd,
    conservative,
    flipd,
    score_of,
    unconstrained,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FREE, GRADIENT, LONGER, LONGER_GRADIENT = (
    "unconstrained",
    "conservative",
    "unconstrained, 3 times longer",
    "conservative, 3 times longer",
)

SETS = (("sphere", 3), ("sphere", 5), ("swiss roll", 3), ("swiss roll", 5), ("torus", 10))
"""Sets, and the dimension of the space that they lie in; the first four are the authors'."""

LONG = ("sphere", 5)
"""The set with two lengths of training."""

WRONG = 1.3
"""Times the gradient part is a gradient too, and not the score."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        width: of three hidden layers.
        sizes: training points, those that choose the rate, and those whose dimension is read off.
        epochs: of batches of 256.
        plane: the same for sets of the plane, whose samples are compared.
        plane_epochs: of these, and of digits.
        samples: of exact scores, and of the samples that potentials are fitted to.
        side: pixels of a digit's edge.
    """

    seeds: int
    width: int
    sizes: Sizes
    epochs: int
    plane: Sizes
    plane_epochs: int
    samples: int
    side: int


BUDGETS = {
    "smoke": Budget(1, 8, Sizes(200, 50, 6), 1, Sizes(200, 50, 100), 1, 200, 2),
    "full": Budget(3, 128, Sizes(7680, 1000, 60), 67, Sizes(7680, 1000, 1000), 34, 4000, 4),
    "paper": Budget(5, 512, Sizes(50_000, 5000, 500), 500, Sizes(50_000, 5000, 5000), 500, 20_000, 8),
}


# --- exact scores ----------------------------------------------------------------------------------------------------
def exact_part(run: Run[Budget]) -> Part:
    """Samples and likelihoods along exact scores of mixtures with gauge fields, in 2 and 10 dimensions."""
    n, steps = (20, 4) if run.dry else (run.budget.samples, 60 if run.settles else 8)

    def method(dim: int, c: float, seed: int) -> Mapping[str, Any]:
        here = Run(run.scale, seed, run.budget, run.device, run.dry)
        mixture, R = mixture_of(dim), QUARTER if dim == 2 else skew(here, dim)
        due, _ = mixture.sample(n, generator=here.generator(7))
        score = mixture_score(mixture)
        found = sampled(Turned(score, R, c), dim, n, here, steps=steps)
        other = sampled(score, dim, n, here, offset=8, steps=steps)
        return {
            "sliced distance": float(sliced_wasserstein(found, due, generator=here.generator())),
            "sliced distance to other samples of the score": float(
                sliced_wasserstein(found, other, generator=here.generator())
            ),
            "p-value against other samples of the score": same_law(found, other, here),
            "largest error of log-density": likelihood_errors(dim, (c,), here, low=0.01, steps=4 * steps)[0],
        }

    methods = {f"{d} dimensions, c={c:g}": partial(method, d, c) for d in (2, 10) for c in (0.0, 1.0, 3.0)}
    table = sweep("exact scores", methods, run=run)
    column = "p-value against other samples of the score"
    return table.part(
        table.bound(
            "gauge-fields-leave-samples-in-ten-dimensions",
            "Least p-value (Kolmogorov and Smirnov, ten directions, Bonferroni) between samples along s + 3 R s and samples "
            "along s from other noise; a mixture in ten dimensions.",
            table["10 dimensions, c=3", column],
            at_least=1e-3,
        ),
        table.bound(
            "gauge-fields-leave-densities-in-ten-dimensions",
            "Largest error of log-densities of a mixture in ten dimensions along s + 3 R s, 240 steps from 0.01 to 20.",
            table["10 dimensions, c=3", "largest error of log-density"],
            at_most=3e-4,
        ),
    )


# --- training --------------------------------------------------------------------------------------------------------
def objective(model: Any, x: Tensor, _: Tensor) -> Tensor:
    """The denoising loss with levels around 0.17 (`denoising_loss` names the numbers)."""
    return denoising_loss(model, x, log_mean=-1.8, log_std=1.5)


def held_out_loss(model: Any, x: Tensor, generator: Generator) -> float:
    """The denoising loss at held-out points, with the same noise for every rival."""
    with torch.no_grad():
        g = Generator().manual_seed(generator.initial_seed())
        return float(
            denoising_loss(model, x.repeat(max(1, 4000 // len(x)), 1), log_mean=-1.8, log_std=1.5, generator=g)
        )


def training(epochs: int) -> Training:
    """Adam without decay, rates that fall to zero like a cosine."""
    return Training(lambda *_: torch.zeros(()), epochs, 256, rates=(1e-3, 3e-3), optimizer=torch.optim.Adam, widen=1)


def networks(dim: int, width: int, data_std: float, *, longer: bool = False) -> dict[str, Rival]:
    """The two kinds of field, with one length of training or two."""
    makes = {FREE: unconstrained, GRADIENT: conservative}
    rivals = {name: Rival(partial(make, dim, width, data_std), objective=objective) for name, make in makes.items()}
    if longer:
        for name, make in zip((LONGER, LONGER_GRADIENT), makes.values(), strict=True):
            rivals[name] = Rival(partial(make, dim, width, data_std), objective=objective, longer=3)
    return rivals


# --- parts of trained fields -----------------------------------------------------------------------------------------
def parts_of_samples(
    run: Run[Budget], model: nn.Module, x: Tensor, known: Tensor, generator: Generator
) -> Mapping[str, Any]:
    """Samples of a trained field, of its gradient part, and of a multiple of that; how large the remainder is.

    At every level the denoiser is split in L^2 of the noisy training data: the rest of the score, -x / sigma^2, is a gradient.
    """
    count, n = (18, 10) if run.settles else (3, 5)
    levels = noise_levels(count, 0.01, 5.0)
    begin = 5.0 * torch.randn(len(x), 2, generator=generator, dtype=torch.float64)
    basis = bumps(grid(n, 2.0), 4.0 / n)
    shares: list[float] = []
    curls: list[float] = []
    fitted: list[Tensor] = []
    for level in levels:
        noise = torch.randn(known.shape, generator=generator, dtype=torch.float64)
        noisy, sigma = known + level * noise, level.expand(len(known))
        denoised = model(noisy, sigma)
        split = galerkin_split(denoised, noisy, basis)
        score = (denoised - noisy) / level**2
        shares.append(float(split.remainder.square().sum().sqrt() / (level**2 * score.square().sum().sqrt())))
        fitted.append(split.coefficients)

        def field(at: Tensor, level: Tensor = level) -> Tensor:
            return (model(at, level.expand(len(at))) - at) / level**2

        curls.append(float(conservativity(field, noisy[:100]).mean()))

    def of_model(at: Tensor, k: int) -> Tensor:
        return model(at, levels[k].expand(len(at)))

    def of_gradient(at: Tensor, k: int, times: float = 1.0) -> Tensor:
        clean = torch.einsum("bkn,k->bn", gradients(basis, at), fitted[k])
        return at + times * (clean - at)

    def samples(denoiser: Callable[[Tensor, int], Tensor]) -> float:
        at = begin
        for k, (now, then) in enumerate(pairwise(levels)):
            first, step = (at - denoiser(at, k)) / now, then - now
            ahead = at + step * first
            at = at + step * (first + (ahead - denoiser(ahead, k + 1)) / then) / 2
        return float(energy_distance(denoiser(at, len(levels) - 1), x.double()))

    return {
        "energy distance": samples(of_model),
        "energy distance, gradient part": samples(of_gradient),
        f"energy distance, {WRONG} times the gradient part": samples(partial(of_gradient, times=WRONG)),
        "largest share of the remainder": max(shares),
        "mean share of the remainder": math.fsum(shares) / len(shares),
        "mean curl": math.fsum(curls) / len(curls),
    }


def plane_part(run: Run[Budget], name: str) -> Part:
    """A set of the plane: samples of unconstrained and conservative fields, and of the parts of the former."""
    sizes = run.sizes(run.budget.plane)

    def draw(seed: int) -> Split:
        x = points(name, sizes.total, 2, Generator().manual_seed(seed))
        train, validation = x[: sizes.train], x[sizes.train : sizes.train + sizes.validation]
        # The points that noise is added to, to fit potentials; those of a small set are noised several times.
        clean = train.repeat(math.ceil(run.budget.samples / len(train)), 1)[: run.budget.samples]
        return Split((train, train), (validation, validation), (x[-sizes.test :], clean))

    def measure(model: nn.Module, x: Tensor, known: Tensor, generator: Generator) -> Mapping[str, Any]:
        row = {"loss": held_out_loss(model, x, generator)}
        with torch.no_grad():
            row |= parts_of_samples(run, model.double(), x, known.double(), generator)
        model.float()
        return row

    def validate(model: nn.Module, x: Tensor, _: Tensor, generator: Generator) -> Mapping[str, Any]:
        return {"loss": held_out_loss(model, x, generator)}

    table = compare(
        name,
        networks(2, run.budget.width, 1.0),
        draw,
        training(run.budget.plane_epochs),
        measure,
        best="loss",
        run=run,
        validate=validate,
    )
    wrong, right = f"energy distance, {WRONG} times the gradient part", "energy distance, gradient part"
    return table.part(
        table.not_worse(
            f"{name}-needs-no-gradient",
            FREE,
            GRADIENT,
            "energy distance",
            published="not necessary, by a theorem",
        ),
        table.ratio(
            f"{name}-a-gradient-is-not-enough",
            f"{name.capitalize()}: energy distance of samples of {WRONG} times the gradient part of an unconstrained field over "
            "that of samples of the gradient part; larger is worse.",
            table[FREE, wrong],
            table[FREE, right],
            above=1,
            published="not sufficient, by a theorem",
        ),
    )


# --- dimension -------------------------------------------------------------------------------------------------------
def dimensions_row(
    run: Run[Budget], truth: int | None, model: Any, x: Tensor, _: Tensor, generator: Generator
) -> Mapping[str, Any]:
    """Dimension at points by all read-outs of a field, or by neighbours; how often it is right where the truth is known."""
    at = x.double()

    def judged(name: str, found: Tensor) -> dict[str, float]:
        found = found.double()
        right = {} if truth is None else {f"accuracy by {name}": float((found.round() == truth).double().mean())}
        return {f"dimension by {name}": float(found.mean())} | right

    if isinstance(model, Neighbours):
        return judged("neighbours", model(at))
    row = {"loss": held_out_loss(model, x, generator)}
    model.double()
    score, d = score_of(model), x.shape[1]
    with torch.no_grad():
        found = intrinsic_dimension(score, at, steps=40 if run.settles else 4)
        row |= judged("slope", found.by_slope) | judged("gap", found.by_gap)
        # Sigma of these is the lowest level too; the SVD needs more scores than dimensions.
        row |= judged("score SVD", by_score_svd(score, at, 0.04, samples=4 * d, generator=generator))
        row |= judged("FLIPD", flipd(score, at, 0.04))
        row["mean curl"] = float(conservativity(lambda z: score(z, z.new_full((len(z),), 0.04)), at).mean())
    if truth is not None:
        row["tangent slope"] = float(found.slopes[:, truth - 1].median())
        row["normal slope"] = float(found.slopes[:, truth].median())
    model.float()
    return row


def dimension_table(
    run: Run[Budget], name: str, draw: Callable[[int], Split], dim: int, truth: int | None, epochs: int
) -> Table:
    """Both kinds of field, and estimators without a model, on one set."""
    data_std = float(draw(run.seed).train[0].std(0).square().mean().sqrt())  # pyright: ignore[reportAttributeAccessIssue]
    rivals = networks(dim, run.budget.width, data_std, longer=name == _title(*LONG))
    rivals |= {
        method: Rival(partial(Neighbours, method, 3 if run.dry else 20), trains=False, prepare=Neighbours.prepare)
        for method in ESTIMATORS
    }

    def validate(model: nn.Module, x: Tensor, _: Tensor, generator: Generator) -> Mapping[str, Any]:
        return {"loss": held_out_loss(model, x, generator)}

    return compare(
        name,
        rivals,
        draw,
        training(epochs),
        partial(dimensions_row, run, truth),
        best="loss",
        run=run,
        larger=("accuracy", "normal slope"),
        validate=validate,
    )


def _title(name: str, dim: int) -> str:
    return f"{name} in {dim}"


def set_part(run: Run[Budget], name: str, dim: int) -> Part:
    """A set of known dimension."""
    sizes = run.sizes(run.budget.sizes)

    def draw(seed: int) -> Split:
        x = points(name, sizes.total, dim, Generator().manual_seed(seed))
        return Split.of(x, x, sizes)

    title = _title(name, dim)
    table = dimension_table(run, title, draw, dim, DIMENSIONS[name], run.budget.epochs)
    slug = title.replace(" ", "-")

    def at_least(what: str, ours: str, theirs: str, words: str) -> list[Claim]:
        """By differences: the accuracy of the other may be zero."""
        columns = {"accuracy": "accuracy by slope", "normal-slope": "normal slope"}
        return [
            table.bound(
                f"{slug}-{short}{what}",
                f"{title.capitalize()} dimensions: {column} of a conservative field less that of an unconstrained one, {words}.",
                table[ours, column] - table[theirs, column],
                at_least=0,
                published="a figure, in which conservative fields tell tangents from normals",
            )
            for short, column in columns.items()
        ]

    claims = at_least("", GRADIENT, FREE, "after equally many steps")
    claims.append(
        table.bound(
            f"{slug}-networks-are-not-conservative",
            f"{title.capitalize()} dimensions: mean of |J - J^T|^2 / (2 |J|^2) of a trained unconstrained field at the level "
            "0.04.",
            table[FREE, "mean curl"],
            at_least=1e-4,
        )
    )
    if (name, dim) == LONG:
        claims += at_least("-at-equal-time", GRADIENT, LONGER, "after a third of the steps")
        claims += at_least("-after-long-training", LONGER_GRADIENT, LONGER, "after three times as many steps")
    return table.part(*claims)


def digits_part(run: Run[Budget]) -> Part:
    """Small digits, whose dimension nobody knows: how estimators differ."""
    sizes, side = run.sizes(run.budget.sizes), run.budget.side
    most = min(sizes.train, 6000)
    sizes = Sizes(most, min(sizes.validation, 1000), sizes.test)

    def draw(seed: int) -> Split:
        x = small_digits(sizes.total, side, Generator().manual_seed(seed))
        return Split.of(x, x, sizes)

    return dimension_table(run, "digits", draw, side**2, None, run.budget.plane_epochs).part()


# --- all -------------------------------------------------------------------------------------------------------------
def experiment(run: Run[Budget]) -> Result:
    """Properties, exact scores, parts of trained fields, dimensions."""
    return Result.of(
        properties(run, *PROPERTIES),
        exact_part(run),
        *(plane_part(run, name) for name in ("checkerboard", "moons")),
        *(set_part(run, name, dim) for name, dim in SETS),
        digits_part(run),
    )


def figure(result: Result) -> Figure:
    """How often the dimension is found by slopes, by set."""
    from erlangen import plots

    rows = [row for row in result.rows if row["part"] in {_title(*one) for one in SETS}]
    series = {
        model: [float(str(row["accuracy by slope"])) for row in rows if row["model"] == model]
        for model in (FREE, GRADIENT)
    }
    return plots.bar(series, [_title(*one) for one in SETS], "points with the right dimension", percent=True)
