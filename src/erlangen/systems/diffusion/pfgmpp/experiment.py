"""What is measured of PFGM++: laws that hold exactly, the oracle on digits, a toy in 1000 dimensions, trained digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

import erlangen as er
from erlangen.data import digits, mnist
from erlangen.generate import (
    EmpiricalDenoiser,
    NoiseMLP,
    energy_distance,
    frechet_distance,
    heun_sample,
    mmd,
    noise_levels,
    sliced_wasserstein,
)
from erlangen.nn import mlp
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties, sweep
from erlangen.systems.diffusion.pfgmpp._properties import PROPERTIES
from erlangen.systems.diffusion.pfgmpp.method import PoissonFlow, rounded_weights
from erlangen.systems.diffusion.pfgmpp.rivals import (
    BoundedFlow,
    LargeBatchFlow,
    ToyNetwork,
    at_its_own_scale,
    from_large_batch,
    perturbed,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINITE, ALPHAS, STEPS, BITS = (8, 32, 128), (0.1, 0.2), (10, 6), (8, 6, 5)
"""Numbers of additional dimensions; shares of noise; numbers of steps; bits of a weight."""

SMALL, DIFFUSION, PFGM, BOUNDED, ONE = "D=8", "D=inf", "PFGM", "D=1, bounded norms", "D=1"


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        side, width: pixels of a digit's edge, and the network's hidden layers, of which there are three.
        epochs, batch: of digits.
        samples: that are drawn and compared with as many digits.
        oracle: digits that the oracle knows, and samples from it.
        toy: samples of the toy, with its dimension and epochs.
    """

    seeds: int
    side: int
    width: int
    digits: Sizes
    epochs: int
    batch: int
    samples: int
    oracle: tuple[int, int]
    toy: Sizes
    toy_dim: int
    toy_epochs: int


BUDGETS = {
    "smoke": Budget(1, 8, 16, Sizes(200, 50, 100), 1, 64, 50, (20, 10), Sizes(100, 50, 50), 50, 1),
    "full": Budget(3, 8, 256, Sizes(6000, 1000, 1000), 75, 128, 1000, (512, 128), Sizes(2000, 500, 1000), 1000, 200),
    "paper": Budget(
        3, 28, 2048, Sizes(50_000, 10_000, 10_000), 4000, 512, 50_000, (512, 512), Sizes(2000, 2000, 2000), 1000, 200
    ),
}


# --- the oracle ------------------------------------------------------------------------------------------------------
def scaled(x: Tensor, side: int) -> Tensor:
    """Digits ``[B, 1, 28, 28]`` as vectors of ``side^2`` pixels, each the mean of a window, from 0 to 1."""
    return adaptive_avg_pool2d(x, side).flatten(1)


def oracle_part(run: Run[Budget]) -> Part:
    """Samples of the best denoiser of some digits: they have to be these."""
    known, n = (min(size, 4) for size in run.budget.oracle) if run.dry else run.budget.oracle
    steps = (2,) if run.dry else (18, 40)
    x, _, _ = digits("train")

    def method(D: float, seed: int) -> Mapping[str, Any]:
        g = Generator().manual_seed(seed)
        points = scaled(x[torch.randperm(len(x), generator=g)[:known]], run.budget.side).double()
        points = (points - points.mean()) / points.std() / 2
        model = PoissonFlow(nn.Identity(), (points.shape[1],), D)
        start, row = model.prior(n, generator=g), dict[str, float]()
        for count in steps:
            found = heun_sample(EmpiricalDenoiser(points, model.noise), start, noise_levels(count))
            near = torch.cdist(found, points).min(1)
            row |= {
                f"largest distance, {count} steps": float(near.values.max()),
                f"median distance, {count} steps": float(near.values.median()),
                f"different digits, {count} steps": len(near.indices.unique()),
            }
        return row

    methods = {f"D={D:g}": partial(method, float(D)) for D in (1, 4, 64, 2048, math.inf)}
    table = sweep("oracle", methods, run=run)
    column = f"largest distance, {steps[-1]} steps"
    worst = torch.stack([torch.from_numpy(table[name, column]) for name in methods if name != ONE]).amax(0)
    return table.part(
        table.bound(
            "oracle-samples-are-digits",
            "Largest distance of a sample to the nearest digit that the oracle knows, 40 steps; D of 4 and more.",
            worst.numpy(),
            at_most=3 * 0.002,
        )
    )


# --- a toy in many dimensions ----------------------------------------------------------------------------------------
def toy_part(run: Run[Budget], *, as_published: bool) -> Part:
    """Two clusters on a plane of ten dimensions in a space of many, D = 100 and diffusion: as in the notebook, or corrected."""
    sizes, dim = run.sizes(run.budget.toy), run.budget.toy_dim
    published = 0.0586

    def draw(seed: int) -> Split:
        g = Generator().manual_seed(seed)
        side = 2.0 * torch.randint(2, (sizes.total, 1), generator=g) - 1
        inner = side + 0.2 * torch.randn(sizes.total, 10, generator=g)
        x = inner @ torch.randn(10, dim, generator=g) + 0.01 * torch.randn(sizes.total, dim, generator=g)
        return Split.of(x / math.sqrt(1.04) if as_published else x / x[: sizes.train].std(), side, sizes)

    def measure(model: PoissonFlow, x: Tensor, side: Tensor, generator: Generator) -> Mapping[str, Any]:
        levels = noise_levels(2 if run.dry else 50, 0.001, 50.0)
        found, x = model.sample(len(x), levels=levels, generator=generator), x.double()
        plane = torch.linalg.svd(x, full_matrices=False).Vh[:10]
        axis = (side.to(x) * x).mean(0)
        return {
            "mmd": float(mmd(found, x)),
            "energy distance": float(energy_distance(found, x)),
            "noise off the plane": float((found - found @ plane.mT @ plane).std() / x.std()),
            "larger cluster": 0.5 + abs(float((found @ axis > 0).double().mean()) - 0.5),
        }

    def make(D: float) -> PoissonFlow:
        return PoissonFlow(ToyNetwork(dim, 32, as_published=as_published), (dim,), D, data_std=1.0)

    objective = at_its_own_scale if as_published else perturbed
    rivals = {f"D={D:g}": Rival(partial(make, D), objective=objective) for D in (100.0, math.inf)}
    training = replace(_training(run.budget.toy_epochs, 128), rates=(1e-3,))
    if as_published:
        training = replace(training, schedule=None, clip=None)
    name = "toy of the notebook" if as_published else "toy"
    table = compare(name, rivals, draw, training, measure, best="mmd", run=run)
    slug, words = name.replace(" ", "-"), ", as in the notebook" if as_published else ", with its scales corrected"
    return table.part(
        table.not_worse(
            f"{slug}-finite-d-is-as-good",
            "D=100",
            DIFFUSION,
            "mmd",
            statement=f"Squared mean discrepancy of samples of the toy at D = 100 over that at D = infinity{words}; smaller is "
            "better.",
        ),
        table.bound(
            f"{slug}-mmd",
            f"Squared mean discrepancy of samples of the toy in 1000 dimensions to held-out ones, D = 100{words}.",
            table["D=100", "mmd"],
            at_most=published,
            published=published,
        ),
    )


def _training(epochs: int, batch: int) -> Training:
    """Adam without decay; gradients are clipped, since those of D = 1 have heavy tails."""
    return Training(lambda *_: torch.zeros(()), epochs, batch, rates=(1e-3, 3e-3), optimizer=torch.optim.Adam, clip=1.0)


# --- digits ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scaling:
    """Pixels from 0 to 1 become coordinates of mean 0 and standard deviation 0.5."""

    mean: float
    std: float

    def __call__(self, x: Tensor) -> Tensor:
        """Coordinates of pixels."""
        return (x - self.mean) / (2 * self.std)

    def pixels(self, x: Tensor) -> Tensor:
        """Pixels of coordinates; what is below 0 or above 1 cannot be shown, as in pictures of eight bits."""
        return (2 * self.std * x + self.mean).clamp(0, 1)


@dataclass(frozen=True)
class Judge:
    """What looks at digits: the scale of coordinates, and a classifier's 64 features, which no generator sees."""

    scaling: Scaling
    features: nn.Module

    @classmethod
    def trained(cls, run: Run[Budget]) -> Judge:
        """On the training digits of the run, in their order in the file."""
        sizes = run.sizes(run.budget.digits)
        source = digits if sizes.train + sizes.validation <= 8000 else mnist
        x, y, _ = source("train")
        x, y = scaled(x[: sizes.train], run.budget.side), y[: sizes.train]
        torch.manual_seed(run.seed)
        features = mlp((x.shape[1], 128, 64), last=True)
        epochs = 1 if run.dry or not run.settles else 30
        er.fit(
            nn.Sequential(features, nn.Linear(64, 10)), x, y,
            loss=cross_entropy, epochs=epochs, batch_size=64, seed=run.seed, progress=False,
        )  # fmt: skip
        return cls(Scaling(float(x.mean()), float(x.std())), features.double().eval())


def draws(run: Run[Budget], judge: Judge) -> Callable[[int], Split]:
    """Coordinates of digits. Those of the test come with those of the validation, on which D is chosen."""
    sizes = run.sizes(run.budget.digits)

    def draw(seed: int) -> Split:
        source = digits if sizes.train + sizes.validation <= 8000 else mnist
        parts: list[Tensor] = []
        for name in ("train", "test"):
            x, _, _ = source(name)
            order = torch.randperm(len(x), generator=Generator().manual_seed(seed))
            parts.append(judge.scaling(scaled(x[order], run.budget.side)))
        x, held = parts[0], parts[1][: sizes.test]
        train, validation = x[: sizes.train], x[sizes.train : sizes.train + sizes.validation]
        return Split((train, train), (validation, validation), (held, validation))

    return draw


def generated(run: Run[Budget], judge: Judge, model: nn.Module, seed: int, **options: Any) -> Tensor:
    """Pixels of samples that begin at the same noise whatever the options."""
    assert isinstance(model, PoissonFlow)
    n = min(run.budget.samples, 4) if run.dry else run.budget.samples
    if run.dry:
        options["levels"] = noise_levels(2)
    g = Generator().manual_seed(seed)
    return judge.scaling.pixels(model.sample(n, generator=g, **options))


def digits_row(
    run: Run[Budget], judge: Judge, model: PoissonFlow, x: Tensor, chosen: Tensor, generator: Generator
) -> Mapping[str, Any]:
    """Distances of samples to held-out digits: plain, with noise in every step, in fewer steps, with rounded weights."""
    seed = generator.initial_seed()
    held, other = (judge.scaling.pixels(part.double()) for part in (x, chosen))
    plain = generated(run, judge, model, seed)

    def apart(found: Tensor) -> float:
        return float(energy_distance(found, held))

    row = {"energy distance": apart(plain), "energy distance, validation": float(energy_distance(plain, other))}
    row["energy distance, other digits"] = float(
        energy_distance(other, held)
    )  # what no generator can be expected to beat
    with torch.no_grad():
        row["digit distance"] = float(frechet_distance(judge.features(plain), judge.features(held)))
    row["sliced distance"] = float(sliced_wasserstein(plain, held, generator=generator))
    row |= {f"noise {alpha:g}": apart(generated(run, judge, model, seed, share=alpha)) for alpha in ALPHAS}
    row |= {f"{n} steps": apart(generated(run, judge, model, seed, levels=noise_levels(n))) for n in STEPS}
    return row | {f"{b} bits": apart(generated(run, judge, rounded_weights(model, b), seed)) for b in BITS}


def digits_part(run: Run[Budget]) -> Part:
    """One network, trained and sampled alike for every D; PFGM with its targets from batches."""
    judge, N = Judge.trained(run), run.budget.side**2

    def make(D: float) -> PoissonFlow:
        return PoissonFlow(NoiseMLP(N, width=run.budget.width, pairs=8), (N,), D)

    def make_bounded(kind: type[BoundedFlow]) -> PoissonFlow:
        return kind(NoiseMLP(N, width=run.budget.width, pairs=8), (N,))

    rivals = {
        PFGM: Rival(partial(make_bounded, LargeBatchFlow), objective=from_large_batch, prepare=LargeBatchFlow.prepare),
        BOUNDED: Rival(partial(make_bounded, BoundedFlow), objective=perturbed),
        **{f"D={D:g}": Rival(partial(make, D), objective=perturbed) for D in (1.0, *map(float, FINITE), math.inf)},
    }

    def validate(model: PoissonFlow, x: Tensor, _: Tensor, generator: Generator) -> Mapping[str, Any]:
        found = generated(run, judge, model, generator.initial_seed())
        return {"energy distance": float(energy_distance(found, judge.scaling.pixels(x.double())))}

    table = compare(
        "digits",
        rivals,
        draws(run, judge),
        _training(run.budget.epochs, run.budget.batch),
        partial(digits_row, run, judge),
        best="energy distance",
        run=run,
        validate=validate,
    )
    best = table.best([f"D={D}" for D in FINITE], "energy distance, validation")
    published = "FID 1.91 (D = 2048) against 1.98 on CIFAR-10"

    def suffers_less(name: str, column: str, words: str) -> list[Claim]:
        """By growth, and by what is left: a model that was worse before has an easier time with the first."""
        figure = "a figure in which the smaller D suffers less"
        return [
            table.ratio(
                f"{name}-by-growth",
                f"Digits: how many times the energy distance grows by {words}, D = 8 over D = infinity; smaller is better.",
                table[SMALL, column] / table[SMALL, "energy distance"],
                table[DIFFUSION, column] / table[DIFFUSION, "energy distance"],
                below=1,
                published=figure,
            ),
            table.beats(
                name,
                SMALL,
                DIFFUSION,
                column,
                statement=f"Digits: energy distance with {words}, D = 8 over D = infinity; smaller is better.",
                published=figure,
            ),
        ]

    finite = "of the finite D that is best on validation digits over that of D = infinity; smaller is better."
    return table.part(
        table.not_worse(
            "finite-d-is-as-good",
            best,
            DIFFUSION,
            "energy distance",
            statement=f"Digits: energy distance {finite}",
            published=published,
        ),
        table.not_worse(
            "finite-d-is-as-good-in-features",
            best,
            DIFFUSION,
            "digit distance",
            statement=f"Digits: Frechet distance in a classifier's features {finite}",
            published=published,
        ),
        table.beats(
            "finite-d-beats-pfgm",
            best,
            PFGM,
            "energy distance",
            statement="Digits: energy distance of the finite D that is best in validation over that of PFGM; smaller is better.",
        ),
        table.beats(
            "perturbation-beats-large-batches",
            BOUNDED,
            PFGM,
            "energy distance",
            statement="Digits: energy distance at D = 1 with bounded norms, of targets by perturbation over targets from "
            "batches; smaller is better.",
        ),
        *suffers_less("small-d-bears-noise", "noise 0.2", "normal noise of 0.2 sigma before every step"),
        *suffers_less("small-d-bears-few-steps", "10 steps", "10 steps in place of 18"),
        *suffers_less("small-d-bears-rounded-weights", "5 bits", "weights of 5 bits"),
    )


# --- all -------------------------------------------------------------------------------------------------------------
_GPU = "200 million images through a U-Net on 8 GPUs, and the network of the FID"

ELSEWHERE = (
    Claim.not_measurable(
        "cifar-10", "FID on CIFAR-10, unconditional, D = 2048.", published="1.91, EDM 1.98", reason=_GPU
    ),
    Claim.not_measurable(
        "cifar-10-with-classes", "FID on CIFAR-10 with classes, D = 2048.", published="1.74", reason=_GPU
    ),
    Claim.not_measurable("ffhq-64", "FID on FFHQ 64 x 64, D = 128.", published="2.43, EDM 2.53", reason=_GPU),
)


def experiment(run: Run[Budget]) -> Result:
    """Properties, the oracle, the toy, digits."""
    return Result.of(
        properties(run, *PROPERTIES),
        oracle_part(run),
        *(toy_part(run, as_published=flag) for flag in (True, False)),
        digits_part(run),
        Part(claims=ELSEWHERE),
    )


def figure(result: Result) -> Figure:
    """How samples of digits suffer from noise in every step, by D."""
    from erlangen import plots

    columns = {0.0: "energy distance"} | {alpha: f"noise {alpha:g}" for alpha in ALPHAS}
    curves = {
        str(row["model"]): [(alpha, float(str(row[name]))) for alpha, name in columns.items()]
        for row in result.rows
        if row["part"] == "digits"
    }
    return plots.line(curves, "noise in every step, as a share of sigma", "energy distance to digits", logy=True)
