"""EqMotion: predict how agents move on, wherever and however the scene lies, and find out which of them interact.

Xu, Tan, Tan, Chen, Wang and Wang (2023) carry two kinds of features of every agent through the network: vectors that turn
with the scene, from cosine waves of its past, and invariants. Layers mix vectors by bias-free maps, cut them off against
learned directions, and pull agents along their differences, by factors that see distances and invariants alone. One more
part guesses for each pair which of a few kinds of interaction joins it; the guess is invariant and weighs what the pairs
tell each other.

Re-measured here:

1. Exact properties of networks with random parameters, in the plane and in space: rotations, reflections and shifts,
   permutations of agents, the invariance of the guesses.
2. Five charged particles, and five with springs, 20 frames in and 20 out, 0.1 units of time apart. The metric is the average
   displacement error (ADE), that of the last frame (FDE), and mean squared errors at four horizons.
3. The interaction graph of springs, found without labels: the share of pairs whose most likely category says rightly
   whether there is a spring, under the better of the two namings.
4. A molecule, ethanol under GFN2-xTB forces (needs the extra `molecules`), 10 frames in and 10 out, 2 fs apart. The first 60 %
   of one trajectory train, the last 25 % test.
5. People: 15 joints of captured movements at 30 Hz, 10 frames in and 10 out; three clips, drawn with the seed, test. With the
   option `mocap`, a file of clips, also people of the CMU database, 38 joints, with the split of the file.

Rivals of the same run: going on with the last step; an LSTM for each agent; message passing on all coordinates about the
centre, without and with random rotations in training; and EGNN from the last frame, with the speeds and turning angles of
the past. All predict the difference from going on with the last step, have about equally many parameters (57 to 61 thousand
for particles), the same data, epochs, batches and schedule, and the better of two learning rates, chosen on validation data
of the first seed after a fourth of the epochs; the variant for the interaction graph has one rate. "Rotated" columns are the
same test scenes, each turned at random.

What differs from the paper:

- It predicts from the centre of the past, here all networks start from straight motion, which short trainings need.
- Springs without walls move by linear laws, so that each agent's own past tells its future, and nothing makes the categories
  mean anything: a row shows how rightly the paper's network guesses the graph. With `memory=1` the layers see the last
  frame alone, and what the past tells must pass through the categories; noise on these, which grows from nothing in the
  middle of the training, makes them sharp. That variant is scored.
- Charged particles are isotropic: a plain network learns rotations from the data and loses nothing on rotated scenes. That it
  does elsewhere is measured on people, who stand upright.
- Squares of lengths have no smoothing constant, logits of categories no activation, and EGNN predicts all frames in one pass
  instead of being rolled out.
- The paper's percentages are gains over the best method before it on its data; ours are over the best rival of this run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator

from erlangen import plots
from erlangen.errors import MissingExtraError
from erlangen.groups import E
from erlangen.measure import equivariance_error
from erlangen.simulate import ethanol, xtb_trajectory
from erlangen.survey.claims import Claim, Result, Scale, System, averaged
from erlangen.systems.motion import _eqmotion_models as models
from erlangen.systems.motion._eqmotion_models import Budget
from erlangen.systems.motion._eqmotion_network import (
    EqMotion,
    MotionLayer,
    cosine_basis,
    finite_velocity,
    reasoning_accuracy,
)
from erlangen.systems.motion._eqmotion_tasks import Task, captured, molecule, particles, people

__all__ = [
    "SYSTEM",
    "EqMotion",
    "MotionLayer",
    "cosine_basis",
    "experiment",
    "finite_velocity",
    "reasoning_accuracy",
]

SYSTEM = System(
    title="EqMotion: Equivariant Multi-agent Motion Prediction with Invariant Interaction Reasoning",
    authors=(
        "Chenxin Xu",
        "Robby T. Tan",
        "Yuhong Tan",
        "Siheng Chen",
        "Yu Guang Wang",
        "Xinchao Wang",
        "Yanfeng Wang",
    ),
    venue="CVPR",
    year=2023,
    arxiv="2303.10876",
    abstract_claims=(
        "The network is equivariant under motions of space, and what it infers about interactions is invariant, by construction.",
        "One network serves particles, molecules, skeletons and pedestrians.",
        "It beats the best method before it by 24.0, 30.1, 8.6 and 9.2 % on these four.",
        "It infers the interactions better, without labels for them.",
    ),
)

Row = dict[str, Any]
CAPTURED = "people, CMU"
NAMES = {CAPTURED: "captured"}
"""Parts whose claims have another name."""
RIVALS = (models.LSTM, models.GNN, models.AUGMENTED, models.EQUIVARIANT)
PLAIN = (models.CONSTANT, models.LSTM, models.GNN, models.AUGMENTED)
"""Rivals that are not built to be equivariant; going on with the last step is, but learns nothing."""


# --- 1. properties ----------------------------------------------------------------------------------------------------
def property_rows(seed: int) -> list[Row]:
    """Errors of networks with random parameters: 100 motions with shifts of ten units, in both precisions."""
    rows: list[Row] = []
    for dim in (2, 3):
        for dtype in (torch.float32, torch.float64):
            generator = Generator().manual_seed(seed)
            pos = torch.randn(4, 6, 10, dim, generator=generator, dtype=torch.float64).cumsum(-2).to(dtype)
            x = {"pos": pos, "vel": finite_velocity(pos)}
            model = EqMotion(10, 7, dim=dim, features=16, channels=16, layers=2, generator=generator).to(dtype).eval()
            group = E(dim)
            g = group.sample(100, generator=generator, dtype=torch.float64)
            g = group.join(group.linear(g), 10 * group.translation(g)).to(dtype)
            rows.append(
                {
                    "part": "properties",
                    "model": f"EqMotion, {group.name}, {str(dtype).removeprefix('torch.')}",
                    "equivariance error": float(equivariance_error(model, None, x, elements=g, reduce="max")),
                    **symmetric_errors(model, x, g, generator),
                }
            )
    return rows


@torch.no_grad()
def symmetric_errors(
    model: EqMotion, x: dict[str, torch.Tensor], g: torch.Tensor, generator: Generator
) -> dict[str, float]:
    """Change of the guesses under motions, error under permutations of agents, and under a shift of 1000 units."""
    base, guess = model(x), model.interactions(x)
    turned = model.interactions(model.symmetry.input.act(g[:, None], {key: value[None] for key, value in x.items()}))
    order = torch.randperm(base.shape[1], generator=generator)
    mixed = {key: value[:, order] for key, value in x.items()}
    far = model({**x, "pos": x["pos"] + 1000}) - 1000
    return {
        "change of guesses": float((turned - guess).abs().max()),
        "permutation error": max(
            float((model(mixed) - base[:, order]).abs().max() / base.abs().max()),
            float((model.interactions(mixed) - guess[:, order][:, :, order]).abs().max()),
        ),
        "error 1000 away over spread": float((far - base).abs().max() / base.std()),
    }


def property_claims(rows: Sequence[Row]) -> list[Claim]:
    """Claims about exactness."""

    def worst(key: str, ending: str) -> float:
        return max(row[key] for row in rows if row["model"].endswith(ending))

    statements = [
        ("motions-exact-float64", "Error under 100 motions of plane or space.", "equivariance error", "64", 1e-12),
        ("motions-exact-float32", "The same in float32.", "equivariance error", "32", 1e-5),
        ("guesses-invariant", "Change of the guessed interactions under motions.", "change of guesses", "64", 1e-12),
        ("guesses-invariant-float32", "The same in float32.", "change of guesses", "32", 1e-5),
        ("permutation", "Error under permutations of agents, of futures and guesses.", "permutation error", "64", 1e-12),
        ("far-away", "Error 1000 units away, over the spread, float32.", "error 1000 away over spread", "32", 1e-3),
    ]  # fmt: skip
    return [Claim.exact(name, text, measured=worst(key, end), tol=tol) for name, text, key, end, tol in statements]


# --- 2. to 5. trained -------------------------------------------------------------------------------------------------
def trained_rows(
    part: str, names: Sequence[str], tasks: Sequence[Task], budget: Budget, seeds: Sequence[int]
) -> list[Row]:
    """One row for each model, means over seeds; every seed has its own data."""
    return [averaged(models.runs_of(name, tasks, budget, seeds), part=part, model=name) for name in names]


def molecule_rows(names: Sequence[str], steps: int, budget: Budget, seeds: Sequence[int]) -> list[Row]:
    """Rows for ethanol, or one that says why there are none."""
    tasks: list[Task] = []
    for seed in seeds:
        try:
            motion = xtb_trajectory(ethanol(), steps=steps, generator=Generator().manual_seed(seed))
        except MissingExtraError as error:
            return [{"part": "molecule", "model": f"not run: {error}"}]
        kinds = torch.eye(3)[torch.tensor([0, 0, 1, *[2] * 6])]  # carbon, oxygen, hydrogen
        tasks.append(molecule(motion.pos, kinds, 10, 2))
    return trained_rows("molecule", names, tasks, budget, seeds)


def gain_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about errors on each kind of data: against rivals without equivariance, and against all."""
    claims: list[Claim] = []
    published = {"charges": "24.0 % (particles)", "molecule": "30.1 %", "people": "8.6 %"}
    for part in ("charges", "springs", "molecule", "people", CAPTURED):
        table = {row["model"]: row for row in rows if row["part"] == part}
        if models.OURS not in table:
            if part == CAPTURED:
                claims.append(
                    missing_part("captured", "needs the CMU clips, see captured_motion: --set mocap=FILE", None)
                )
                continue
            claims.append(missing_part(part, next(iter(table), ""), published.get(part)))
            continue
        errors = {name: row["ADE"] for name, row in table.items() if name != models.REASONING}
        ours = errors.pop(models.OURS)
        plain = min(errors[name] for name in PLAIN if name in errors)
        claims.append(
            Claim.ratio(
                f"{NAMES.get(part, part)}-beats-plain",
                f"ADE of EqMotion over that of the best rival without equivariance, {part}.",
                measured=ours / plain,
                at_most=0.8 if full and part in ("charges", "springs") else 1.0,
            )
        )
        if full and part in published:
            claims.append(
                Claim.ratio(
                    f"{part}-gain",
                    f"Share by which the ADE of EqMotion lies below that of the best rival, {part}.",
                    measured=1 - ours / min(errors.values()),
                    at_least=0.0,
                    published=published[part],
                )
            )
    return claims


def missing_part(part: str, why: str, published: str | None) -> Claim:
    """The claim about data that this run could not make."""
    return Claim.not_measurable(
        f"{part}-gain",
        f"EqMotion predicts better than its rivals, {part}.",
        published=published,
        reason=why or "not run",
    )


def rotation_claims(rows: Sequence[Row], full: bool) -> list[Claim]:
    """Claims about test scenes that are turned."""
    ours = [row for row in rows if row["model"] in (models.OURS, models.REASONING) and "ADE" in row]
    claims = [
        Claim.exact(
            "rotated-equal",
            "Relative difference between the ADE of EqMotion on test scenes as they are and turned, worst of all data.",
            measured=max(abs(row["ADE, rotated"] / row["ADE"] - 1) for row in ours),
            tol=1e-4,
        )
    ]
    for part in ("people", "molecule"):
        table = {row["model"]: row for row in rows if row["part"] == part}
        if models.OURS not in table:
            continue
        plain = table[models.GNN]
        claims.append(
            Claim.ratio(
                f"{part}-plain-degrades",
                f"ADE of message passing without equivariance on turned test scenes, over that on others, {part}.",
                measured=plain["ADE, rotated"] / plain["ADE"],
                at_least=1.2 if full else 1.0,
            )
        )
        rivals = [table[name]["ADE, rotated"] for name in RIVALS if name in table]
        claims.append(
            Claim.ratio(
                f"{part}-beats-rivals-rotated",
                f"ADE of EqMotion on turned test scenes over that of the best rival that learns, {part}.",
                measured=table[models.OURS]["ADE, rotated"] / min(rivals),
                at_most=1.0,
            )
        )
    return claims


def reasoning_claim(rows: Sequence[Row], full: bool) -> Claim:
    """The claim about the interaction graph."""
    row = next(row for row in rows if row["part"] == "springs" and row["model"] == models.REASONING)
    return Claim.ratio(
        "springs-found",
        "Share of pairs for which the categories tell rightly, without labels, whether there is a spring (chance: 0.5).",
        measured=row["interaction accuracy"],
        at_least=0.9 if full else 0.5,
    )


UNMEASURED = (
    Claim.not_measurable(
        "pedestrians-gain",
        "EqMotion has the smallest best-of-20 errors on pedestrians of ETH and UCY.",
        published="9.2 %; ADE/FDE 0.21/0.35 m, mean of five scenes",
        reason="needs the ETH/UCY recordings, which are released for research alone; erlangen.data.pedestrians reads them",
    ),
    Claim.not_measurable(
        "human36m",
        "EqMotion has the smallest joint errors on Human3.6M.",
        published="9.1/20.1/43.7/55.0/73.4/106.9 mm at 80/160/320/400/560/1000 ms",
        reason="needs Human3.6M, which is under licence; captured clips of the package stand in",
    ),
)


def experiment(scale: Scale, seed: int, mocap: str = "") -> Result:
    """All parts; "full" has three seeds and all rivals, "smoke" the parts that come without the extra, small.

    Args:
        scale: "smoke" or "full".
        seed: the first seed.
        mocap: file of captured clips as `erlangen.data.captured_motion` reads it, for one more part, the people of the CMU
            database.

    Raises:
        DataError: the file cannot be read.
    """
    full, rates = scale == "full", (2e-3, 5e-3)
    every, small = (models.CONSTANT, *RIVALS, models.OURS), (models.CONSTANT, models.GNN, models.OURS)
    quick = Budget(5, 1, (3e-3,), 25)
    seeds = [seed + k for k in range(3 if full else 1)]
    rows = property_rows(seed)
    if full:
        charges = [particles("charges", (800, 200, 500), 20, s) for s in seeds]
        rows += trained_rows("charges", every, charges, Budget(30, 8, rates), seeds)
        few = [particles("springs", (800, 200, 500), 20, s) for s in seeds]
        some = (models.CONSTANT, models.GNN, models.EQUIVARIANT, models.OURS)
        rows += trained_rows("springs", some, few, Budget(20, 5, rates), seeds)
        many = [particles("springs", (1000, 200, 500), 20, s) for s in seeds]
        rows += trained_rows("springs", [models.REASONING], many, Budget(40, 1, (4e-3,)), seeds)
        rows += molecule_rows(every, 6000, Budget(30, 7, rates), seeds)
        rows += trained_rows("people", every, [people(10, s, 2) for s in seeds], Budget(20, 5, rates), seeds)
    else:
        rows += trained_rows("charges", small, [particles("charges", (100, 10, 30), 8, seed)], quick, seeds)
        rows += trained_rows("springs", small, [particles("springs", (100, 10, 30), 8, seed)], quick, seeds)
        rows += trained_rows("springs", [models.REASONING], [particles("springs", (50, 10, 50), 8, seed)], quick, seeds)
        rows += [{"part": "molecule", "model": "not run: only at the scale full"}]
        rows += trained_rows("people", small, [people(5, seed, 16)], quick, seeds)
    if mocap:
        names, budget = (every, Budget(10, 3, rates)) if full else (small, quick)
        rows += trained_rows(
            CAPTURED, names, [captured(mocap, 10, s, 10 if full else 80) for s in seeds], budget, seeds
        )
    claims = [
        *property_claims([row for row in rows if row["part"] == "properties"]),
        *gain_claims(rows, full),
        *rotation_claims(rows, full),
        reasoning_claim(rows, full),
        *UNMEASURED,
    ]
    return Result(rows, claims)


# --- picture ----------------------------------------------------------------------------------------------------------
def figure(result: Result) -> plots.Figure:
    """Squared errors by horizon for each kind of data, and how often the interactions are guessed rightly."""
    keys = {share: f"MSE at {share:.0%}" for share in models.HORIZONS}
    forecasts = [row for row in result.rows if keys[models.HORIZONS[0]] in row]
    parts = list(dict.fromkeys(row["part"] for row in forecasts))
    found = [row for row in result.rows if "interaction accuracy" in row]
    drawn, (*axes, last) = plots.panels(len(parts) + 1)
    for ax, part in zip(axes, parts, strict=True):
        curves = {
            str(row["model"]): [(share, float(row[key])) for share, key in keys.items()]
            for row in forecasts
            if row["part"] == part
        }
        label = f"{part}: mean squared error"
        plots.line(curves, "share of the future", label, logy=True, xticks=models.HORIZONS, ax=ax)
    names = [f"{row['part']}: {row['model']}" for row in found]
    accuracy = {"accuracy": [float(row["interaction accuracy"]) for row in found]}
    plots.barh(accuracy, names, "interactions guessed rightly", percent=True, ax=last)
    return drawn
