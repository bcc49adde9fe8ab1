"""What is measured of trajectory diffusion: properties, forecasts of particles, ethanol and people, free generation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from erlangen.errors import MissingExtraError
from erlangen.survey import Claim, Part, Result, Rival, Run, Sizes, Split, Table, compare, properties
from erlangen.survey.tables import Values
from erlangen.systems.motion.geotdm import data
from erlangen.systems.motion.geotdm._forecasts import AT_ONCE, Row
from erlangen.systems.motion.geotdm._models import (
    CENTRE,
    FREE,
    LEARNED,
    LONG,
    MANY,
    PLAIN,
    PUBLISHED,
    REGRESSION,
    SCATTERED,
    VARIANTS,
    VELOCITY,
    Drawn,
    denoiser,
    forecasts,
    training_of,
)
from erlangen.systems.motion.geotdm._properties import PROPERTIES
from erlangen.systems.motion.geotdm._scores import (
    QUANTITIES,
    classification_score,
    forecaster_error,
    histogram_rows,
    marginal_scores,
)
from erlangen.systems.motion.geotdm.data import Frames, Motion, part
from erlangen.systems.motion.geotdm.method import DenoisingLoss, GeoTDM
from erlangen.systems.motion.geotdm.rivals import Regression, Sampler, independent, moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAUSSIAN, INDEPENDENT, OTHER = "Gaussian", "Gaussian, one variance", "other data"
SAMPLES, DRAWS = 5, 20
"""Futures that are drawn for each system, and for each pedestrian."""
OURS = Frames(5, 10, 200)
"""Frames of 15 cover the three units of time of the paper's 30."""
DIFFUSIONS = {
    "charged": (LEARNED, VELOCITY, CENTRE, LONG),
    "springs": (LEARNED, VELOCITY, PLAIN, LONG, *VARIANTS),
    "gravity": (LEARNED, VELOCITY, LONG),
    "ethanol": (LEARNED, VELOCITY, LONG),
}
"""Diffusions of each table; in a molecule the centre of mass is nowhere near an atom."""


@dataclass(frozen=True)
class Budget:
    """What a run spends.

    Attributes:
        motions, free: systems that are forecast, and whole trajectories.
        quick, free_steps: steps of samplers, of forecasts and of free generation.
        trajectories, molecule_steps: of ethanol, and steps of the simulation of each.
        held: scenes of pedestrians that are left out in turn.
    """

    seeds: int
    motions: Sizes
    free: Sizes
    epochs: int
    free_epochs: int
    diffusion_steps: int
    quick: int
    free_steps: int
    trajectories: Sizes
    molecule_steps: int
    held: int
    features: int = 32
    layers: int = 3
    batch: int = 20
    frames: Frames = OURS
    stride: int = 8


BUDGETS = {
    "smoke": Budget(
        1, Sizes(20, 4, 6), Sizes(20, 4, 10), 1, 1, 10, 2, 4, Sizes(1, 1, 1), 80, 1, features=16, layers=1
    ),
    "full": Budget(3, Sizes(700, 40, 100), Sizes(800, 100, 200), 4, 40, 50, 6, 12, Sizes(10, 2, 4), 320, 2),
    "paper": Budget(
        5, Sizes(3000, 2000, 2000), Sizes(3000, 2000, 2000), 4000, 4000, 1000, 100, 100, Sizes(40, 10, 10), 4000, 5,
        128, 6, 128, Frames(10, 20, 100), 1,
    ),
}  # fmt: skip


# --- forecasts -------------------------------------------------------------------------------------------------------
def forecast_part(table: Table) -> Part:
    """The claims about forecasts."""
    law, few = table.name, table[LEARNED, "ADE, few steps"]
    plain = [name for name in (PLAIN, LONG) if name in table.models]
    fixed = [name for name in (VELOCITY, CENTRE) if name in table.models]
    turned = f"Largest relative change of the ADE on turned and moved test data, with turned noise; {law}."
    faster = f"Mean ADE with few steps over that with all; {law}."
    claims = [
        table.beats(f"{law}-beats-plain", LEARNED, plain, "ADE"),
        table.beats(f"{law}-learned-prior", LEARNED, fixed, "ADE"),
        table.beats(f"{law}-beats-regression", LEARNED, REGRESSION, "ADE"),
        table.beats(f"{law}-best-of-five", LEARNED, [MANY, SCATTERED], "best ADE"),
        table.same(f"{law}-turned", turned, table[LEARNED, "ADE, few steps, turned"] / few, 1.0, tol=1e-4),
        table.bound(f"{law}-quick-sampler", faster, few / table[LEARNED, "ADE, all steps"], at_most=1),
    ]
    if PUBLISHED in table.models:
        claims.append(table.beats(f"{law}-published-beats-plain", PUBLISHED, plain, "ADE"))
    return table.part(*claims)


def particles_part(run: Run[Budget], law: str) -> Part:
    """Charges, springs or masses."""
    draw = partial(data.particles, law, run.sizes(run.budget.motions), run.budget.frames)
    return forecast_part(forecasts(run, law, draw, DIFFUSIONS[law], samples=SAMPLES, longer=law == "charged"))


ETHANOL = {
    "ethanol-beats-plain": "Errors of GeoTDM on ethanol are below those of diffusions with the same blocks and no geometry.",
    "ethanol-learned-prior": "Errors of GeoTDM on ethanol are smaller with the learned prior than around the velocity kept.",
    "ethanol-beats-regression": "Errors of GeoTDM on ethanol are below those of an EGNN that answers once.",
    "ethanol-best-of-five": "The best of five draws of GeoTDM on ethanol is nearer than the best of five other answers.",
    "ethanol-turned": "Errors of GeoTDM on ethanol do not change when data and noise are turned.",
    "ethanol-quick-sampler": "Few steps of the sampler are as good as many on ethanol.",
}


def ethanol_part(run: Run[Budget]) -> Part:
    """Ethanol, or why there are no forces for it."""
    budget, sizes = run.budget, run.sizes(run.budget.motions)
    trajectories, steps = budget.trajectories, budget.molecule_steps
    if run.dry:
        trajectories, steps = Sizes(1, 1, 1), 4 * (budget.frames.given + budget.frames.ahead)

    def draw(seed: int) -> Split:
        split = data.ethanol_split(trajectories, steps, budget.frames, seed, min(40, sizes.test))
        return data.few(split, sizes)

    try:
        table = forecasts(run, "ethanol", draw, DIFFUSIONS["ethanol"], samples=SAMPLES)
    except MissingExtraError as error:
        reason = str(error)
        return Part(
            claims=[Claim.not_measurable(name, text, published=None, reason=reason) for name, text in ETHANOL.items()]
        )
    return forecast_part(table)


def pedestrian_parts(run: Run[Budget], folder: str) -> list[Part]:
    """Pedestrians of scenes that are left out in turn, best of 20 answers of each, or that there are none."""
    if not folder:
        missing = Claim.not_measurable(
            "pedestrians-best-of-20",
            "Best-of-20 errors on pedestrians are below those of 20 answers of other models.",
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
            (LEARNED, LONG),
            samples=DRAWS,
            samplers=False,
        )
        for scene in list(data.SCENES)[-run.budget.held :]
    ]

    def error(model: str) -> Values:
        return sum((table[model, "best ADE"] for table in tables), torch.zeros(1).numpy())

    texts = {
        "drift": (SCATTERED, "of a Gaussian about the velocity kept"),
        "regression": (MANY, "of an EGNN with as many answers"),
        "plain": (LONG, "of a diffusion with the same blocks, no geometry and as much time"),
    }
    claims = [
        tables[0].ratio(
            f"pedestrians-beats-{key}",
            f"Best-of-20 ADE of GeoTDM on scenes that were left out, over that {text}.",
            error(LEARNED),
            error(other),
            below=1,
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
    drawn = Drawn(partial(data.free_springs, run.sizes(budget.free), budget.frames), run.seed)
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
        table.beats("free-beats-gaussian", FREE, GAUSSIAN, "marginal score"),
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
        run = replace(run, budget=replace(run.budget, diffusion_steps=5, quick=2, free_steps=2))
    return Result.of(
        properties(run, *PROPERTIES),
        *(particles_part(run, law) for law in data.SIMULATORS),
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
    names = list(dict.fromkeys(name for law in rows.values() for name in law))
    errors = {law: [rows[law].get(name, {}).get("ADE") for name in names] for law in rows}
    drawn, (*axes, below) = plots.panels(len(QUANTITIES) + 1, columns=len(QUANTITIES))
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        bins = [row for row in result.rows if row["part"] == "histograms" and row["model"] == quantity]
        shares = {name: [(row["value"], row[name]) for row in bins] for name in ("data", FREE, GAUSSIAN)}
        plots.line(shares, quantity, "share", ax=ax)
    plots.barh(errors, names, "average displacement error, mean of five draws", ax=below)
    return drawn
