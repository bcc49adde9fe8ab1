"""Invariance-constrained augmentation: families, worlds, policies, the convex problem, and the smoke run."""

import math

import pytest
import torch

from erlangen.errors import ErlangenError
from erlangen.soft import ConstrainedAugment
from erlangen.survey.claims import Result
from erlangen.survey.ledger import discover_systems, run
from erlangen.systems.learning import invariance_constrained_augmentation as system


def digits(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return system.sets(system.WORLDS[0], (count, 1, 1), 0).train


# --- the experiment --------------------------------------------------------------------------------------------------
def test_smoke_run() -> None:
    name = "invariance_constrained_augmentation"
    assert discover_systems()[name] == f"erlangen.systems.learning.{name}"
    entry = run(name, "smoke", 0)
    claims = {claim["id"]: claim for claim in entry["claims"]}
    exact = (
        "sampler-law",
        "mean-loss-of-the-law",
        "convex-optimum",
        "multiplier-is-the-price",
        "slack-changes-nothing",
    )
    assert all(claims[name]["holds"] for name in exact)
    result = Result.from_dict(entry)
    rows = [row for row in result.rows if row["part"] == "worlds"]
    assert len(rows) == 3 * len(system.METHODS)
    assert {row["world"] for row in rows} == {world.name for world in system.WORLDS[:3]}
    for row in rows:
        assert 0 <= row["accuracy"] <= 100
        if row["method"] == "constrained, each":
            assert all(row[f"nu {family}"] >= 0 for family in system.FAMILIES)
            assert row["costliest"] in system.FAMILIES
    left, right = system.figure(result).axes
    assert len(left.patches) == sum(row["part"] == "worlds" for row in result.rows)
    assert len(right.patches) == len(system.FAMILIES) * len({row["world"] for row in result.rows if "world" in row})


# --- transformations -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", system.FAMILIES)
def test_families_move_pictures_and_keep_labels(family, generator) -> None:
    x, y = digits()
    moved, labels = system.FAMILIES[family](x, y, generator=generator)
    assert moved.shape == x.shape
    assert torch.equal(labels, y)
    assert not torch.equal(moved, x)
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6
    again = system.FAMILIES[family](x, y, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(moved, again)


def test_shifts_are_whole_pixels_within_reach(generator) -> None:
    x = torch.zeros(400, 1, 28, 28)
    x[:, 0, 14, 14] = 1.0
    moved, _ = system.FAMILIES["shifts"](x, torch.zeros(400), generator=generator)
    places = moved[:, 0].flatten(1).argmax(1)
    rows, columns = places // 28 - 14, places % 28 - 14
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    for steps in (rows, columns):
        assert sorted(set(steps.tolist())) == list(range(-system.REACH, system.REACH + 1))


def test_random_families_leave_their_share_alone(generator) -> None:
    x, y = digits(600)
    moved, _ = system.RandomFamily(0.5)(x, y, generator=generator)
    share = float((moved != x).flatten(1).any(1).double().mean())
    # Of the moved ones a tenth meets the identity: half of the mirrors, and nearly none else.
    assert share == pytest.approx(0.5 * 0.9, abs=4 * math.sqrt(0.25 / 600))


def test_contrast_keeps_the_ground_and_the_order(generator) -> None:
    x, y = digits()
    moved, _ = system.contrast(x, y, generator=generator)
    assert bool((moved[x == 0] == 0).all())
    for before, after in zip(x.flatten(1), moved.flatten(1), strict=True):
        assert bool((after[before.argsort()].diff() >= -1e-6).all())


# --- worlds and policies ---------------------------------------------------------------------------------------------
def test_worlds_move_what_is_tested_and_not_what_trains() -> None:
    raw = system.digits("train").x
    known = {image.numpy().tobytes() for image in raw}
    for world in system.WORLDS[:3]:
        data = system.sets(world, (20, 20, 20), 0)
        assert all(image.numpy().tobytes() in known for image in data.train[0])
        still = [image.numpy().tobytes() in known for image in data.validation[0]]
        assert all(still) == (world.moved_by is None)
    merged = system.sets(system.WORLDS[1], (500, 1, 200), 0)
    assert 9 not in merged.train[1]
    assert 9 not in merged.test[1]


@pytest.mark.parametrize("method", system.METHODS)
def test_policies(method, generator) -> None:
    x, y = digits(40)
    torch.manual_seed(0)
    transform = system.policy(method, 0.5, system.WORLDS[2], system.network(), 0)
    if method == "none":
        assert transform is None
        return
    moved, labels = transform(x, y, generator=generator)
    assert moved.shape == x.shape
    assert torch.equal(labels, y)
    if method.startswith("constrained"):
        assert isinstance(transform, ConstrainedAugment)
        assert len(transform.multipliers) == (1 if method == "constrained" else len(system.FAMILIES))
        torch.testing.assert_close(transform.limits, torch.full_like(transform.limits, 0.5 * math.log(10)))


@pytest.mark.parametrize("limit", [1.0, 2.25])
def test_the_convex_problem_is_solved(limit) -> None:
    optimum, price = system.convex_errors(limit)
    assert optimum < 1e-3
    assert price < 0.02


def test_a_bad_limit_is_refused() -> None:
    with pytest.raises(ErlangenError, match="limits"):
        system.policy("constrained", 0.0, system.WORLDS[0], system.network(), 0)
