"""What is measured of trajectory diffusion: properties, forecasts of particles, ethanol and people, free generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from erlangen.errors import MissingExtraError
from erlangen.generate import cosine_betas
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Training, compare, properties
from erlangen.survey.tables import Table
from erlangen.systems.motion.geotdm import data
from erlangen.systems.motion.geotdm._forecasts import AT_ONCE, Row, forecast_row, sampler_row
from erlangen.systems.motion.geotdm._network import EGTN
from erlangen.systems.motion.geotdm._priors import CentreOfMass, KeptVelocity, LearnedPrior
from erlangen.systems.motion.geotdm._properties import PROPERTIES
from erlangen.systems.motion.geotdm._scores import (
    QUANTITIES,
    classification_score,
    displacement,
    forecaster_error,
    histogram_rows,
    marginal_scores,
)
from erlangen.systems.motion.geotdm.data import Frames, Motion, part, widths
from erlangen.systems.motion.geotdm.method import DenoisingLoss, GeoTDM
from erlangen.systems.motion.geotdm.rivals import PlainTrajectoryNet, Regression, Sampler, independent, moments
from erlangen.training import one_cycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIFFUSIONS = LEARNED, CENTRE, PLAIN = ("GeoTDM, learned prior", "GeoTDM, centre of mass", "plain diffusion")
"""Forecasters that draw samples. The plain one has the same blocks without geometry, around the velocity kept."""
REGRESSION, KEPT = "EGNN regression", "constant velocity"
FREE, GAUSSIAN, INDEPENDENT, OTHER = "GeoTDM, unconditional", "Gaussian", "Gaussian, one variance", "other data"
SAMPLES, DRAWS = 5, 20
"""Futures that are drawn for each system, and for each pedestrian."""
QUICK_FACTOR = 1.1
"""By how much errors may grow with few steps."""
RATES = (1e-2, 4e-3)
OURS = Frames(5, 10, 200)
"""Frames of 15 cover the three units of time of the paper's 30."""


@dataclass(frozen=True)
class Budget:
    """What a run spends; `quick` and `free_steps` are steps of samplers, of forecasts and of free generation.

    `molecule_steps` are those of the simulation of ethanol; `held` scenes of pedestrians are left out in turn.
    """

    seeds: int
    motions: Sizes
    epochs: int
    free_epochs: int
    diffusion_steps: int
    quick: int
    free_steps: int
    molecule_steps: int
    held: int
    features: int = 32
    layers: int = 3
    batch: int = 20
    frames: Frames = OURS
    stride: int = 8


BUDGETS = {
    "smoke": Budget(1, Sizes(48, 16, 16), 3, 3, 10, 3, 6, 640, 1, 16, 2),
    "full": Budget(3, Sizes(1000, 100, 200), 4, 40, 50, 6, 12, 3800, 2),
    "paper": Budget(
        5, Sizes(3000, 2000, 2000), 4000, 4000, 1000, 100, 100, 40_000, 5, 128, 6, 128, Frames(10, 20, 100), 1
    ),
}


# --- models ----------------------------------------------------------------------------------------------------------
def diffusion(name: str, x: Motion, budget: Budget) -> GeoTDM:
    """A diffusion model of the comparison, by name, in the units of x; without known frames in x it is unconditional."""
    nodes, pairs = widths(x)
    frames, dim = x["pos"].shape[1], x["pos"].shape[-1]
    known = x["past"].shape[1] if "past" in x else 0
    distances = 0 if name == PLAIN else known
    build = PlainTrajectoryNet if name == PLAIN else EGTN
    inputs = (nodes + (known > 0), pairs + distances)
    net = build(*inputs, features=budget.features, layers=budget.layers, vector=True, dim=dim)
    prior: nn.Module | None = None
    if name == LEARNED:
        prior = LearnedPrior(frames, nodes, pairs, features=budget.features // 2, layers=1, dim=dim)
    elif known:
        prior = (KeptVelocity if name == PLAIN else CentreOfMass)(frames, dim)
    return GeoTDM(net, cosine_betas(budget.diffusion_steps), frames, prior, distances=distances).adapt(x)


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


def training_of(run: Run[Budget], epochs: int) -> Training:
    """What all models get alike."""
    adam = partial(torch.optim.AdamW, fused=True)
    return Training(displacement, epochs, run.budget.batch, RATES, optimizer=adam, schedule=one_cycle, clip=1.0)


def denoiser(name: str, drawn: Drawn, budget: Budget) -> Rival:
    """A diffusion, which is trained on its own loss."""
    return Rival(lambda: DenoisingLoss(diffusion(name, drawn.train, budget)), loss=lambda errors, _: errors.mean())


# --- forecasts -------------------------------------------------------------------------------------------------------
def forecasts(
    run: Run[Budget],
    name: str,
    draw: Callable[[int], Split],
    diffusions: Sequence[str],
    *,
    samples: int = SAMPLES,
    samplers: bool = True,
) -> Table:
    """The models on one kind of data."""
    budget, drawn = run.budget, Drawn(draw, run.seed)
    frames, dim = drawn.train["pos"].shape[1::2]
    samples = 1 if run.dry else samples

    def measure(model: nn.Module, x: Motion, y: Motion, generator: Generator) -> Row:
        seed = generator.initial_seed()
        row = forecast_row(model, x, budget.quick, samples, seed)
        return row | (sampler_row(model, x, budget.quick, samples, seed) if samplers else {})

    def validate(model: nn.Module, x: Motion, y: Motion, generator: Generator) -> Row:
        return forecast_row(model, x, budget.quick, samples, generator.initial_seed())

    rivals = {key: denoiser(key, drawn, budget) for key in diffusions}
    rivals[REGRESSION] = Rival(lambda: Regression(drawn.train, budget.features, budget.layers))
    rivals[KEPT] = Rival(lambda: KeptVelocity(frames, dim), trains=False)
    how = training_of(run, budget.epochs)
    return compare(name, rivals, drawn, how, measure, best="ADE", run=run, validate=validate)


def forecast_part(table: Table) -> Part:
    """The claims about forecasts."""
    law, few = table.name, table[LEARNED, "ADE, few steps"]
    quick = np.minimum(few, table[LEARNED, "ADE, few steps, flow"]) / table[LEARNED, "ADE, all steps"]
    centre = [table.beats(f"{law}-learned-prior", LEARNED, CENTRE, "ADE")] if CENTRE in table.models else []
    turned = f"Largest relative change of the ADE on turned and moved test data, with turned noise; {law}."
    faster = f"Mean ADE with few steps, the better of with and without noise on the way, over that with all; {law}."
    return table.part(
        table.beats(f"{law}-beats-plain", LEARNED, PLAIN, "ADE", by=0.8),
        *centre,
        table.beats(f"{law}-beats-regression", LEARNED, REGRESSION, "ADE"),
        table.same(f"{law}-turned", turned, table[LEARNED, "ADE, few steps, turned"] / few, 1.0, tol=1e-4),
        table.bound(f"{law}-quick-sampler", faster, quick, at_most=QUICK_FACTOR),
    )


ETHANOL = {
    "ethanol-beats-plain": "Errors of GeoTDM on ethanol are below those of a diffusion with the same blocks and no geometry.",
    "ethanol-beats-regression": "Errors of GeoTDM on ethanol are below those of an EGNN that answers once.",
    "ethanol-turned": "Errors of GeoTDM on ethanol do not change when data and noise are turned.",
    "ethanol-quick-sampler": "Few steps of the sampler are as good as many on ethanol.",
}


def ethanol_part(run: Run[Budget]) -> Part:
    """Ethanol, or why there are no forces for it. All trainings share one trajectory: it costs as much as they do."""
    given, ahead, _ = run.budget.frames
    sizes = run.sizes(run.budget.motions)
    steps = 50 * (given + ahead) if run.dry else run.budget.molecule_steps
    try:
        split = data.ethanol_split(steps, run.budget.frames, run.seed, min(40, sizes.test))
    except MissingExtraError as error:
        reason = str(error)
        return Part(
            claims=[Claim.not_measurable(name, text, published=None, reason=reason) for name, text in ETHANOL.items()]
        )
    split = data.few(split, sizes)
    return forecast_part(forecasts(run, "ethanol", lambda seed: split, (LEARNED, PLAIN)))


def pedestrian_parts(run: Run[Budget], folder: str) -> list[Part]:
    """Pedestrians of scenes that are left out in turn, best of 20 draws, or that there are none."""
    if not folder:
        missing = Claim.not_measurable(
            "pedestrians-best-of-20",
            "Best-of-20 errors on pedestrians are below those of straight motion, of EGNN and of a plain diffusion.",
            published="competitive best-of-20 errors on ETH and UCY",
            reason="the ETH/UCY recordings are not part of the library; give --set pedestrians=FOLDER with biwi_eth.txt, "
            "biwi_hotel.txt, students001.txt, students003.txt, crowds_zara01.txt and crowds_zara02.txt",
        )
        return [Part(claims=[missing])]
    motions = {scene: data.scene_motions(folder, scene, run.budget.stride) for scene in data.SCENES}
    sizes = run.sizes(run.budget.motions)
    tables = [
        forecasts(
            run,
            f"pedestrians, {scene}",
            partial(data.scene_left_out, motions, scene, sizes),
            (LEARNED, PLAIN),
            samples=DRAWS,
            samplers=False,
        )
        for scene in list(data.SCENES)[-run.budget.held :]
    ]

    def error(model: str) -> Any:
        return sum(table[model, "best ADE"] for table in tables)

    texts = {
        "drift": (KEPT, "where everybody keeps the velocity"),
        "regression": (REGRESSION, "of an EGNN that answers once"),
        "plain": (PLAIN, "of a diffusion with the same blocks and no geometry"),
    }
    claims = [
        tables[0].bound(
            f"pedestrians-beats-{key}",
            f"Best-of-20 ADE of GeoTDM on scenes that were left out, over the ADE {text}.",
            error(LEARNED) / error(other),
            at_most=1,
        )
        for key, (other, text) in texts.items()
    ]
    return [*(table.part() for table in tables), Part(claims=claims)]


# --- free generation -------------------------------------------------------------------------------------------------
def free_samples(model: GeoTDM, x: Motion, steps: int, generator: Generator) -> Tensor:
    """As many trajectories as there are in x, with the features of its systems."""
    count, _, particles, _ = x["pos"].shape
    parts: list[Tensor] = []
    for first in range(0, count, AT_ONCE):
        some = part(x, first, first + AT_ONCE)
        shape = (len(some.pop("pos")), particles)
        parts.append(model.sample(some, shape=shape, steps=steps, eta=None, generator=generator))
    return torch.cat(parts)


@torch.no_grad()
def denoising_error(model: DenoisingLoss, x: Motion, y: Motion, generator: Generator) -> Row:
    """What chooses the learning rate: the loss with the same steps and noise for all."""
    errors = [model.model.errors(x, Generator().manual_seed(k)).mean() for k in range(4)]
    return {"denoising error": float(torch.stack(errors).mean())}


def free_part(run: Run[Budget]) -> Part:
    """How the distribution of drawn trajectories compares with that of data."""
    budget, given = run.budget, run.budget.frames.given
    drawn = Drawn(partial(data.free_springs, run.sizes(budget.motions), budget.frames), run.seed)
    rivals = {
        FREE: denoiser(FREE, drawn, budget),
        GAUSSIAN: Rival(lambda: moments(drawn.train["pos"]), trains=False),
        INDEPENDENT: Rival(lambda: independent(drawn.train["pos"]), trains=False),
        OTHER: Rival(lambda: Sampler(lambda count, _: drawn.train["pos"][:count]), trains=False),
    }
    pictures: list[Tensor] = []
    real_errors: dict[int, float] = {}

    def taught(pos: Tensor, real: Tensor, seed: int) -> float:
        start = {"past": real[:, :given], "pos": real[:, given:]}
        return forecaster_error(partial(Regression, start, 32, 3), pos, real, given, seed)

    def measure(model: DenoisingLoss | Sampler, x: Motion, y: Motion, generator: Generator) -> Row:
        real, seed = x["pos"], generator.initial_seed()
        row: Row = {}
        if isinstance(model, DenoisingLoss):
            found = free_samples(model.model, x, budget.free_steps, generator)
            few = part(x, 0, 50)
            dimension = 3 * (real.shape[1] * real.shape[2] - 1)
            row["bound, nats per dimension"] = float(model.model.bound_terms(few, generator).sum(1).mean()) / dimension
        else:
            found = model.draw(len(real), generator).to(real)
        pictures.append(found)
        row |= marginal_scores({"": found}, real)[""] | classification_score(found, real, seed)
        if seed not in real_errors:  # of a forecaster that learns from as many training data, the last of them
            real_errors[seed] = taught(drawn.train["pos"][-len(real) :], real, seed)
        return row | {"prediction score": taught(found, real, seed) / real_errors[seed]}

    how = training_of(run, budget.free_epochs)
    table = compare(
        "unconditional", rivals, drawn, how, measure, best="denoising error", run=run, validate=denoising_error,
        larger=("classifier's cross-entropy",),
    )  # fmt: skip
    found = table.part(
        table.beats("free-beats-gaussian", FREE, GAUSSIAN, "marginal score", by=0.5),
        table.beats("free-fools-classifier", FREE, GAUSSIAN, "classifier's cross-entropy"),
        table.beats("free-teaches-forecaster", FREE, GAUSSIAN, "prediction score"),
    )
    # What the first seed drew, in the order of the rivals.
    histograms = histogram_rows({FREE: pictures[0], GAUSSIAN: pictures[1]}, drawn.first.test[0]["pos"])
    return Part([*found.rows, *histograms], found.claims, found.runs)


# --- all -------------------------------------------------------------------------------------------------------------
UNMEASURED = (
    Claim.not_measurable(
        "published-particles",
        "Displacement errors on charges, springs and masses are below those of EqMotion.",
        published="lower ADE and FDE than EqMotion on three kinds of particles, 10 known frames and 20 ahead",
        reason="needs 4000 epochs of 3000 trajectories at width 128 and 1000 steps, on a GPU; a small version is above",
    ),
    Claim.not_measurable(
        "published-molecules",
        "Trajectories of eight molecules are better than those of earlier models.",
        published="lower errors on MD17",
        reason="needs the MD17 data set, and training for days; ethanol is simulated instead",
    ),
)


def experiment(run: Run[Budget], pedestrians: str = "") -> Result:
    """All parts.

    Args:
        run: scale, seeds and budget.
        pedestrians: folder of the ETH/UCY text files; without it there are no pedestrians.

    Raises:
        DataError: a file is missing from the folder, or cannot be read.
    """
    if pedestrians:
        data.check_folder(pedestrians)
    if run.dry:  # networks as large as ever, chains short
        run = replace(run, budget=replace(run.budget, diffusion_steps=10, quick=3, free_steps=3))
    sizes = run.sizes(run.budget.motions)
    laws = [
        forecast_part(forecasts(run, law, partial(data.particles, law, sizes, run.budget.frames), DIFFUSIONS))
        for law in data.SIMULATORS
    ]
    return Result.of(
        properties(run, *PROPERTIES),
        *laws,
        ethanol_part(run),
        *pedestrian_parts(run, pedestrians),
        free_part(run),
        Part(claims=UNMEASURED),
    )


# --- picture ---------------------------------------------------------------------------------------------------------
def figure(result: Result) -> Figure:
    """Errors of all forecasters, and histograms of free generation beside those of data."""
    from erlangen import plots

    rows = {law: {row["model"]: row for row in result.rows if row["part"] == law} for law in data.SIMULATORS}
    names = list(rows["charged"])
    errors = {law: [rows[law][name]["ADE"] for name in names] for law in data.SIMULATORS}
    drawn, (*axes, below) = plots.panels(len(QUANTITIES) + 1, columns=len(QUANTITIES))
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        bins = [row for row in result.rows if row["part"] == "histograms" and row["model"] == quantity]
        shares = {name: [(row["value"], row[name]) for row in bins] for name in ("data", FREE, GAUSSIAN)}
        plots.line(shares, quantity, "share", ax=ax)
    plots.barh(errors, names, "average displacement error, mean of five draws", ax=below)
    return drawn
