"""The models that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, nn

from erlangen.generate import cosine_betas
from erlangen.groups import O
from erlangen.soft import augment
from erlangen.survey import Rival, Run, Split, Table, Training, compare
from erlangen.symmetry import Symmetry
from erlangen.systems.motion.geotdm._forecasts import Row, forecast_row, sampler_row
from erlangen.systems.motion.geotdm._network import EGTN
from erlangen.systems.motion.geotdm._priors import CentreOfMass, KeptVelocity, LearnedPrior
from erlangen.systems.motion.geotdm._scores import displacement
from erlangen.systems.motion.geotdm.data import Motion, widths
from erlangen.systems.motion.geotdm.method import GeoTDM
from erlangen.systems.motion.geotdm.rivals import PlainTrajectoryNet, Regression, Sampled, Scattered
from erlangen.training import one_cycle

LEARNED, VELOCITY, CENTRE = "GeoTDM, learned prior", "GeoTDM, kept velocity", "GeoTDM, centre of mass"
PUBLISHED = "GeoTDM, as published"
PRIOR, POSITIONS, NO_VECTORS, NO_DISTANCES, NOISE = (
    "GeoTDM, prior as published",
    "GeoTDM, chain on positions",
    "GeoTDM, without vectors",
    "GeoTDM, without distances",
    "GeoTDM, noise as target",
)
VARIANTS = (PUBLISHED, PRIOR, POSITIONS, NO_VECTORS, NO_DISTANCES, NOISE)
"""The model without all of what was added here, and without one of it at a time."""
PLAIN, LONG = "plain diffusion", "plain diffusion, augmented, twice the epochs"
"""The same blocks without geometry, around the velocity kept; twice the epochs take about as long as GeoTDM."""
REGRESSION, MANY, SCATTERED, KEPT = (
    "EGNN regression",
    "EGNN regression, as many answers",
    "Gaussian about constant velocity",
    "constant velocity",
)
FOUR_TIMES = "GeoTDM, learned prior, four times the epochs", "EGNN regression, four times the epochs"
"""Rows that tell how much of a difference is a matter of training."""
FREE = "GeoTDM, unconditional"
RATES = (1e-2, 4e-3)


def diffusion(name: str, x: Motion, budget: Any) -> GeoTDM:
    """A diffusion model of the comparison, by name, in the units of x; without known frames in x it is unconditional."""
    nodes, pairs = widths(x)
    frames, dim = x["pos"].shape[1], x["pos"].shape[-1]
    known = x["past"].shape[1] if "past" in x else 0
    plain = name in (PLAIN, LONG)

    def without(part: str) -> bool:
        return name in (PUBLISHED, part)

    distances = 0 if without(NO_DISTANCES) else known
    vector = not without(NO_VECTORS)
    build = PlainTrajectoryNet if plain else EGTN
    inputs = (nodes + (known > 0), pairs + distances)
    net = build(
        *inputs, features=budget.features, layers=budget.layers, vector=vector, dim=dim, scaled=name != PUBLISHED
    )
    prior: nn.Module | None = None
    if known and (plain or name == VELOCITY):
        prior = KeptVelocity(frames, dim)
    elif name == CENTRE:
        prior = CentreOfMass(frames, dim)
    elif known:
        old = without(PRIOR)
        prior = LearnedPrior(frames, nodes, pairs, features=budget.features // 2, layers=1, dim=dim, published=old)
    betas = cosine_betas(budget.diffusion_steps)
    target = "noise" if without(NOISE) else "velocity"
    model = GeoTDM(net, betas, frames, prior, target=target, distances=distances).adapt(x)
    if without(POSITIONS):
        model.units.copy_(torch.eye(frames))
        model.inverse.copy_(torch.eye(frames))
    return model


class Drawn:
    """The data of the seed that is compared, for rivals that are made of them; those of the first seed are there at once."""

    def __init__(self, draw: Callable[[int], Split], first: int) -> None:
        self.draw, self.seed, self.first = draw, first, draw(first)
        self.split = self.first

    def __call__(self, seed: int) -> Split:
        """Those of a seed."""
        self.split = self.first if seed == self.seed else self.draw(seed)
        return self.split

    @property
    def train(self) -> Motion:
        """What trains."""
        return self.split.train[0]


def training_of(run: Run[Any], epochs: int) -> Training:
    """What all models get alike."""
    adam = partial(torch.optim.AdamW, fused=True)
    return Training(
        displacement, epochs, run.budget.batch, RATES, optimizer=adam, schedule=one_cycle, clip=1.0, widen=3
    )


def turned(x: Motion, y: Motion, *, generator: Generator) -> tuple[Motion, Motion]:
    """Every system after its own random rotation or reflection."""
    moving = {"pos", "past"}
    before, after = ({key: "points" if key in moving else "invariant" for key in tree} for tree in (x, y))
    turns = Symmetry(O(x["pos"].shape[-1]), input=before, output=after)
    return augment(turns)(x, y, generator=generator)


def denoiser(name: str, drawn: Drawn, budget: Any) -> Rival:
    """A diffusion, which is trained on its own loss."""
    marks = {"all_steps": name == PUBLISHED, "examined": name == LEARNED}
    return Rival(
        lambda: Sampled(diffusion(name, drawn.train, budget), **marks),
        turned if name == LONG else None,
        loss=lambda errors, _: errors.mean(),
        longer=2 if name == LONG else 1,
    )


def forecasts(
    run: Run[Any],
    name: str,
    draw: Callable[[int], Split],
    diffusions: Sequence[str],
    *,
    samples: int,
    samplers: bool = True,
    longer: bool = False,
) -> Table:
    """The models on one kind of data. What gives several answers has as many as are drawn of diffusions.

    With `longer` there are `FOUR_TIMES`, too, with the smaller of the rates, which they have no time to choose.
    """
    budget, drawn = run.budget, Drawn(draw, run.seed)
    frames, dim = drawn.train["pos"].shape[1::2]
    samples = 2 if run.dry else samples

    def measure(model: nn.Module, x: Motion, y: Motion, generator: Generator) -> Row:
        seed = generator.initial_seed()
        row = forecast_row(model, x, budget.quick, samples, seed)
        return row | (sampler_row(model, x, budget.quick, samples, seed) if samplers else {})

    def validate(model: nn.Module, x: Motion, y: Motion, generator: Generator) -> Row:
        """What chooses rates: the error that is trained, of the best where several answers are."""
        row = forecast_row(model, x, budget.quick, samples, generator.initial_seed())
        many = isinstance(model, Regression) and model.answers > 1
        return {"choice": row["best ADE" if many else "ADE"]}

    def regression(answers: int) -> Rival:
        return Rival(lambda: Regression(drawn.train, budget.features, budget.layers, answers))

    rivals = {key: denoiser(key, drawn, budget) for key in diffusions}
    rivals |= {REGRESSION: regression(1), MANY: regression(samples)}
    if longer:
        for key, rival in zip(FOUR_TIMES, (rivals[LEARNED], rivals[REGRESSION]), strict=True):
            rivals[key] = replace(rival, rates=RATES[-1:], longer=4)
    scattered = partial(Scattered, frames, dim, samples)
    rivals[SCATTERED] = Rival(scattered, trains=False, prepare=lambda model, split: model.prepare(split))
    rivals[KEPT] = Rival(lambda: KeptVelocity(frames, dim), trains=False)
    how = training_of(run, budget.epochs)
    return compare(name, rivals, drawn, how, measure, best="choice", run=run, validate=validate)
