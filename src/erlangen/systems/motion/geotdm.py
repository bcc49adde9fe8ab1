"""Geometric trajectory diffusion: draw whole motions, freely or as a continuation of known frames, that know no direction.

Han, Xu, Lou, Ye and Ermon (2024) diffuse all frames of all particles at once. The network alternates messages between the
particles of a frame with attention of every particle to its own frames; both move vectors along differences of positions,
so the noise that it sees turns with the trajectory. Freely generated trajectories live where the mean over frames and
particles is zero. Continuations are diffused around a reference made of the known frames: their centre of mass, or affine
combinations of them that are learned. Either way the density has the symmetry E(3). Mirror images are as likely as each
other, so what only one hand does cannot be learned.

Re-measured here:

1. Exact properties of network, reference, chain and sampler, at random parameters.
2. Forecasts: five known frames of five charges, or of five particles on hidden springs, and ten that follow, 0.2 apart.
   Displacement errors: means over five draws, that of the mean of the draws, and the best of five. Rows: both references;
   the same blocks without geometry, coordinates and steps being features, around the velocity kept; an EGNN that answers
   once and is trained on the displacement error itself; and particles that keep their velocity. The learned
   reference, once trained, is tested again with turned data and turned noise, and with other samplers.
3. The same for the nine atoms of ethanol under GFN2-xTB forces, frames 2 fs apart, in the full run and with the extra
   `molecules`, without the centre of mass. Three trainings share one trajectory, whose end is the test.
4. Free generation of 15 frames of springs: how far histograms of pair distances and of steps from frame to frame are from
   those of test data (total variation, mean of both), how well a classifier tells drawn trajectories from data, and the
   error of a forecaster that learns from them over that of one that learns from data. Against a Gaussian with the mean and
   the whole covariance of the training trajectories, one with their variance alone, and other data, the floor. The
   likelihood bound is given, too.
5. Pedestrians, with the option `pedestrians`, a folder of the ETH/UCY text files: 8 frames in, 12 out, 0.4 s apart, in the
   plane, in groups of at most eight, best of 20 draws, on scenes that were left out of the training.

What differs from the paper:

- The chain does not run on positions but in units in which the frames of training data, about the reference, have the
  covariance one (see `GeoTDM.adapt`). White noise on positions of a smooth motion hides its shape long before its place, and
  what is left of it in the end is large beside steps between frames. In these units noisy motions are as smooth as data, and
  a network that answers nothing is as good as a Gaussian.
- The network holds that noise as a second vector of each particle, which moves while positions stay; it reads lengths as
  waves, the number of the frame, how far particles moved since the frame before and, for forecasts, all distances in the
  known frames, as the EGNN does. Layers read products of differences on a scale that is logarithmic where they are large.
- The learned reference starts as the velocity kept, the paper's as sums of features.
- 50 steps of a cosine schedule instead of 1000 linear ones, so networks predict the velocity of the chain instead of the
  noise. Forecasts are sampled in few steps with the noise of the posterior, free motions along the flow, by steps of second
  order that are exact for Gaussians where other samplers shrink them.
- Widths of 32, three layers (one of half the width in the learned reference), minutes instead of thousands of epochs;
  messages have one non-linear layer; attention pulls by a sum of terms in the value and in the time between; logits are
  divided by the root of the width. Distances of 15 frames cover the three units of time of the paper's 30.

All models of a table have the same data, epochs, batches and optimiser and equally many layers and features (parameters are
in the rows). Each gets the better of two learning rates, by its loss on a fifth of the first seed's data after a third of the
epochs on the rest. Units and samplers of the diffusions, and what they read, were chosen by how GeoTDM did in trials of single
seeds, on other systems than those of the run; the plain one reads no distances. The EGNN has an advantage: it minimises what is
measured, while the mean error of draws holds their spread, too; the error of the mean of draws, in the rows, holds less of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Generator

from erlangen import plots
from erlangen.errors import MissingExtraError
from erlangen.groups import O
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.systems.motion._geotdm_diffusion import DenoisingLoss, GeoTDM, Target
from erlangen.systems.motion._geotdm_free import DIFFUSION, GAUSSIAN, QUANTITIES, free_rows
from erlangen.systems.motion._geotdm_molecules import ETHANOL, ethanol_splits
from erlangen.systems.motion._geotdm_network import EGTN, PlainTrajectoryNet, SpatialLayer, TemporalLayer
from erlangen.systems.motion._geotdm_pedestrians import HELD, check_folder, pedestrian_claims, pedestrian_rows
from erlangen.systems.motion._geotdm_priors import CentreOfMass, LearnedPrior
from erlangen.systems.motion._geotdm_properties import property_claims, property_errors
from erlangen.systems.motion._geotdm_training import (
    DIFFUSIONS,
    REGRESSION,
    SIMULATORS,
    Motion,
    Row,
    Size,
    best_rate,
    displacement_row,
    drift,
    forecast,
    futures,
    part,
    splits,
    timed_futures,
)

__all__ = [
    "EGTN",
    "SYSTEM",
    "CentreOfMass",
    "DenoisingLoss",
    "GeoTDM",
    "LearnedPrior",
    "PlainTrajectoryNet",
    "SpatialLayer",
    "Target",
    "TemporalLayer",
    "experiment",
    "figure",
]

SYSTEM = System(
    title="Geometric Trajectory Diffusion Models",
    authors=("Jiaqi Han", "Minkai Xu", "Aaron Lou", "Haotian Ye", "Stefano Ermon"),
    venue="NeurIPS",
    year=2024,
    arxiv="2410.13027",
    abstract_claims=(
        "One diffusion model captures the distribution over time of trajectories of geometric systems.",
        "Equivariant kernels over time and conditioning on known frames respect the symmetries of physics.",
        "A learned equivariant prior makes conditional generation more expressive.",
        "Free and conditional generation are clearly better than before on physics, molecules and pedestrians.",
    ),
)

SIZES: dict[Scale, Size] = {
    "smoke": Size(48, 16, 3, (1e-2,), diffusion_steps=10, quick=3, free_steps=6, features=16, layers=2),
    "full": Size(1000, 200, 4, (1e-2, 4e-3), diffusion_steps=50, quick=6, free_epochs=8, molecule_steps=3200),
}
LEARNED, CENTRE, PLAIN = DIFFUSIONS
MODELS = (*DIFFUSIONS, REGRESSION)
COMPARED = 25
"""Systems that samplers are compared on."""
QUICK_FACTOR = 1.1
"""By how much errors may grow with few steps."""


# --- forecasts --------------------------------------------------------------------------------------------------------
def forecast_rows(
    law: str, sets: Sequence[tuple[Motion, Motion]], size: Size, seeds: Sequence[int], models: Sequence[str] = MODELS
) -> list[Row]:
    """One row for each model, means over seeds, and rows of one seed for other samplers and turned data."""
    rows: list[Row] = []
    extra: list[Row] = []
    for name in models:
        rate = best_rate(name, sets[0][0], size, seeds[0])
        runs: list[Row] = []
        for (train, test), seed in zip(sets, seeds, strict=True):
            row, model = forecast(name, train, test, size, rate, seed)
            runs.append(row)
            if name == LEARNED and seed == seeds[0]:
                extra = sampler_rows(law, cast("GeoTDM", model), part(test, 0, COMPARED), size, seed)
        rows.append(averaged(runs, part=law, model=name))
    return [*rows, averaged([drift(test) for _, test in sets], part=law, model="constant velocity"), *extra]


def molecule_rows(size: Size, seeds: Sequence[int]) -> list[Row]:
    """Rows for ethanol, or one that says why there are none."""
    if not size.molecule_steps:
        return [{"part": ETHANOL, "model": "not run: only at the scale full"}]
    try:
        sets = ethanol_splits(size, len(seeds), seeds[0])
    except MissingExtraError as error:
        return [{"part": ETHANOL, "model": f"not run: {error}"}]
    return forecast_rows(ETHANOL, sets, size, seeds, (LEARNED, PLAIN, REGRESSION))


def sampler_rows(law: str, model: GeoTDM, test: Motion, size: Size, seed: int) -> list[Row]:
    """The trained model with all steps and with few, with and without noise on the way, and on turned data."""
    rows: list[Row] = []
    for name, steps, eta in (
        ("all steps", size.diffusion_steps, 1.0),
        ("few steps", size.quick, 1.0),
        ("few steps, flow", size.quick, None),
    ):
        rows.append({"part": f"{law}, samplers", "model": name} | timed_futures(model, test, steps, seed, eta))
    turns = O(3).sample(len(test["pos"]), generator=Generator().manual_seed(seed), dtype=test["pos"].dtype)[:, None]
    shift = torch.tensor([1.0, -2.0, 0.5])
    moved = {**test, **{key: test[key] @ turns.mT + shift for key in ("past", "pos")}}
    row = displacement_row(futures(model, moved, size.quick, seed, turns=turns), moved)
    return [*rows, {"part": f"{law}, samplers", "model": "few steps, turned data and noise"} | row]


def forecast_claims(law: str, rows: Sequence[Row]) -> list[Claim]:
    """Claims about the forecasts of one law, or that they could not be measured."""
    error = {str(row["model"]): float(row.get("ADE", 0.0)) for row in rows if row["part"] == law}
    if LEARNED not in error:
        why = next(iter(error))
        text = f"Mean ADE of GeoTDM is below those of its rivals; {law}."
        return [Claim.not_measurable(f"{law}-gain", text, published="lower errors on MD17", reason=why)]
    sampler = {row["model"]: row["ADE"] for row in rows if row["part"] == f"{law}, samplers"}
    few = sampler["few steps"]

    def ratio(name: str, other: str, text: str, at_most: float) -> Claim:
        measured = error[LEARNED] / error[other]
        statement = f"Mean ADE of GeoTDM, learned prior, over that of {text}; {law}."
        return Claim.ratio(f"{law}-{name}", statement, measured=measured, at_most=at_most)

    centre = [ratio("learned-prior", CENTRE, "GeoTDM around the centre of mass", 1)] if CENTRE in error else []
    return [
        ratio("beats-plain", PLAIN, "a diffusion with the same blocks and no geometry", 0.8),
        *centre,
        ratio("beats-regression", REGRESSION, "an EGNN that answers once", 1),
        Claim.exact(
            f"{law}-turned",
            f"Relative change of the ADE on turned and moved test data, with turned noise; {law}.",
            measured=abs(sampler["few steps, turned data and noise"] - few) / few,
            tol=1e-4,
        ),
        Claim.ratio(
            f"{law}-quick-sampler",
            f"Mean ADE with few steps, the better of with and without noise on the way, over that with all; {law}.",
            measured=min(few, sampler["few steps, flow"]) / sampler["all steps"],
            at_most=QUICK_FACTOR,
        ),
    ]


# --- all --------------------------------------------------------------------------------------------------------------
def free_claims(rows: Sequence[Row]) -> list[Claim]:
    """The claims about free generation, and what cannot be measured."""
    found = [row for row in rows if row["part"] == "unconditional"]
    score, cross, taught = (
        {row["model"]: row[key] for row in found}
        for key in ("marginal score", "classifier's cross-entropy", "prediction score")
    )
    return [
        Claim.ratio(
            "free-beats-gaussian",
            "Marginal score of free generation over that of the Gaussian with the moments of data.",
            measured=score[DIFFUSION] / score[GAUSSIAN],
            at_most=0.5,
        ),
        Claim.ratio(
            "free-fools-classifier",
            "Cross-entropy of a classifier between free generation and data, over that between the Gaussian and data.",
            measured=cross[DIFFUSION] / cross[GAUSSIAN],
            at_least=1,
        ),
        Claim.ratio(
            "free-teaches-forecaster",
            "Prediction score of free generation over that of the Gaussian.",
            measured=taught[DIFFUSION] / taught[GAUSSIAN],
            at_most=1,
        ),
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
            reason="needs the MD17 data set, and training for days; the full run simulates ethanol instead",
        ),
    ]


def experiment(scale: Scale, seed: int, pedestrians: str = "") -> Result:
    """All parts; "full" has three seeds.

    Args:
        scale: "smoke" or "full".
        seed: the first seed.
        pedestrians: folder of the ETH/UCY text files; without it there are no pedestrians.

    Raises:
        DataError: a file is missing from the folder, or cannot be read.
    """
    if pedestrians:
        check_folder(pedestrians)
    size, full = SIZES[scale], scale == "full"
    seeds = [seed + k for k in range(3 if full else 1)]
    errors = property_errors(seed, size.diffusion_steps)
    free = free_rows(size, seeds)
    errors["schedule"] = next(row["error"] for row in free if row["part"] == "properties")
    rows: list[Row] = [{"part": "properties", "model": name, "error": error} for name, error in errors.items()]
    claims = property_claims(errors)
    for law in SIMULATORS:
        found = forecast_rows(law, [splits(law, size, s) for s in seeds], size, seeds)
        claims += forecast_claims(law, found)
        rows += found
    found = molecule_rows(size, seeds)
    claims += forecast_claims(ETHANOL, found)
    rows += found
    if pedestrians:
        rows += pedestrian_rows(pedestrians, HELD if full else HELD[:1], size, seeds)
    rows += [row for row in free if row["part"] != "properties"]
    return Result(rows, [*claims, *pedestrian_claims(rows), *free_claims(free)])


# --- picture ----------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Errors of all forecasters, and histograms of free generation beside those of data."""
    rows = {law: {row["model"]: row for row in result.rows if row["part"] == law} for law in SIMULATORS}
    names = list(rows["charged"])
    errors = {law: [rows[law][name]["ADE"] for name in names] for law in SIMULATORS}
    drawn, (*axes, below) = plots.panels(len(QUANTITIES) + 1, columns=len(QUANTITIES))
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        bins = [row for row in result.rows if row["part"] == "histograms" and row["model"] == quantity]
        shares = {name: [(row["value"], row[name]) for row in bins] for name in ("data", DIFFUSION, GAUSSIAN)}
        plots.line(shares, quantity, "share", ax=ax)
    plots.barh(errors, names, "average displacement error, mean of five draws", ax=below)
    return drawn
