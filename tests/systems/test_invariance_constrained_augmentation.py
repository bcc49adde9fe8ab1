"""Invariance-constrained augmentation: families, worlds, policies, the convex problem."""

import dataclasses
import gzip
import math
import struct
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from erlangen.data import fashion
from erlangen.errors import DataError, ErlangenError
from erlangen.soft import ConstrainedAugment, metropolis
from erlangen.survey import Run, Sizes, Training
from erlangen.survey.tables import Table
from erlangen.systems.learning.invariance_constrained_augmentation import _properties, data, rivals
from erlangen.systems.learning.invariance_constrained_augmentation import experiment as system


def digits(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return data.sets(data.WORLDS[0], Sizes(count, 1, 1), 0).train


# --- transformations -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", data.FAMILIES)
def test_families_move_pictures_and_keep_labels(family, generator) -> None:
    x, y = digits()
    moved, labels = data.FAMILIES[family](x, y, generator=generator)
    assert moved.shape == x.shape
    assert torch.equal(labels, y)
    assert not torch.equal(moved, x)
    assert float(moved.min()) >= -1e-6
    assert float(moved.max()) <= 1 + 1e-6
    again = data.FAMILIES[family](x, y, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(moved, again)


def test_shifts_are_whole_pixels_within_reach(generator) -> None:
    x = torch.zeros(400, 1, 14, 14)
    x[:, 0, 7, 7] = 1.0
    moved, _ = data.FAMILIES["shifts"](x, torch.zeros(400), generator=generator)
    places = moved[:, 0].flatten(1).argmax(1)
    rows, columns = places // 14 - 7, places % 14 - 7
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    for steps in (rows, columns):
        assert sorted(set(steps.tolist())) == list(range(-data.REACH, data.REACH + 1))


def test_random_families_leave_their_share_alone(generator) -> None:
    x, y = digits(600)
    moved, _ = data.RandomFamily(0.5)(x, y, generator=generator)
    share = float((moved != x).flatten(1).any(1).double().mean())
    # Of the moved ones a tenth meets the identity: half of the mirrors, and nearly none else.
    assert share == pytest.approx(0.5 * 0.9, abs=4 * math.sqrt(0.25 / 600))


@pytest.mark.parametrize("family", data.FAMILIES)
def test_random_families_move_as_each_family_does(family, monkeypatch) -> None:
    """With one family alone: the same elements, drawn behind the choices of family and share, give the same pictures."""
    x, y = digits(30)
    monkeypatch.setattr(data, "FAMILIES", {family: data.FAMILIES[family]})
    moved, _ = data.RandomFamily()(x, y, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    torch.randint(1, (30,), generator=generator)
    torch.rand(30, generator=generator)
    torch.testing.assert_close(moved, data.FAMILIES[family](x, y, generator=generator)[0], atol=1e-4, rtol=0)


def test_contrast_keeps_the_ground_and_the_order(generator) -> None:
    x, y = digits()
    moved, _ = data.contrast(x, y, generator=generator)
    assert bool((moved[x == 0] == 0).all())
    for before, after in zip(x.flatten(1), moved.flatten(1), strict=True):
        assert bool((after[before.argsort()].diff() >= -1e-6).all())


# --- worlds and policies ---------------------------------------------------------------------------------------------
def halved() -> set[bytes]:
    """All digits that come with the library, as the worlds show them."""
    raw = torch.cat([data.digits("train").x, data.digits("test").x])
    return {image.numpy().tobytes() for image in torch.nn.functional.avg_pool2d(raw, 2)}


def test_worlds_move_what_is_tested_and_not_what_trains() -> None:
    known = halved()
    for world in data.WORLDS[:3]:
        split = data.sets(world, Sizes(20, 20, 20), 0)
        assert all(image.numpy().tobytes() in known for image in split.train[0])
        for part in (split.validation, split.test):
            still = [image.numpy().tobytes() in known for image in part[0]]
            assert all(still) == (world.moved_by is None)
    merged = data.sets(data.WORLDS[1], Sizes(500, 1, 200), 0)
    assert 9 not in merged.train[1]
    assert 9 not in merged.test[1]


def test_no_picture_is_in_two_worlds_and_none_of_a_test_ever_trains(monkeypatch) -> None:
    monkeypatch.setattr(data, "FAMILIES", dict.fromkeys(data.FAMILIES, lambda x, y, generator: (x, y)))
    sizes = system.BUDGETS["full"].pictures
    trains: set[bytes] = set()
    tests: set[bytes] = set()
    for seed in range(3):
        parts = [part for world in data.WORLDS[:3] for part in data.sets(world, sizes, seed)]
        pictures = [image.numpy().tobytes() for x, _ in parts for image in x]
        # The library's digits have no two that are equal.
        assert len(set(pictures)) == len(pictures) == 3 * sizes.total
        trains |= {image.numpy().tobytes() for x, _ in parts[0::3] + parts[1::3] for image in x}
        tests |= {image.numpy().tobytes() for x, _ in parts[2::3] for image in x}
    assert not trains & tests
    assert len(trains) > 3 * (sizes.train + sizes.validation)  # other seeds take others


def test_worlds_of_clothes_share_no_picture(tmp_path, monkeypatch) -> None:
    """Pictures that carry their own number, in the files of the data set."""
    for name, count in (("train", 60), ("t10k", 40)):
        x = np.zeros((count, 28, 28), np.uint8)
        x[:] = np.arange(count)[:, None, None] + (100 if name == "t10k" else 0)
        for kind, array, code in (("images-idx3", x, 3), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10, 1)):
            head = struct.pack(">HBB", 0, 8, code) + struct.pack(f">{code}I", *array.shape)
            (tmp_path / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    monkeypatch.setattr(data, "fashion", partial(fashion, folder=tmp_path))
    monkeypatch.setattr(data, "FAMILIES", dict.fromkeys(data.FAMILIES, lambda x, y, generator: (x, y)))
    seen = [
        int(number)
        for world in data.WORLDS[3:]
        for x, _ in data.sets(world, Sizes(20, 10, 20), 0)
        for number in (x[:, 0, 0, 0] * 255).round()
    ]
    assert len(data.WORLDS[3:]) == 2
    assert len(set(seen)) == len(seen) == 100


def test_missing_pictures_are_an_error_before_anything_trains(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(data, "fashion", partial(fashion, folder=tmp_path / "nowhere"))
    monkeypatch.setattr(system, "compare", lambda *_, **__: pytest.fail("a world was trained"))
    for scale in ("full", "paper"):
        budget = dataclasses.replace(system.BUDGETS[scale], pictures=Sizes(10, 5, 5))
        with pytest.raises(DataError, match="dataset-fashion-mnist"):
            system.experiment(Run(scale, budget=budget))


@pytest.mark.parametrize("method", rivals.METHODS)
def test_policies(method, generator) -> None:
    x, y = digits(40)
    torch.manual_seed(0)
    transform = rivals.policy(method, 0.5, data.WORLDS[2], rivals.Classifier(), 0)
    if method == "none":
        assert transform is None
        return
    moved, labels = transform(x, y, generator=generator)
    assert moved.shape == x.shape
    assert torch.equal(labels, y)
    if method.startswith("constrained"):
        assert isinstance(transform, ConstrainedAugment)
        assert len(transform.multipliers) == (1 if method == "constrained" else len(data.FAMILIES))
        torch.testing.assert_close(transform.limits, torch.full_like(transform.limits, 0.5 * math.log(10)))


def test_the_constrained_policies_draw_by_the_chains_that_are_verified() -> None:
    for method in (rivals.ONE, rivals.EACH):
        transform = rivals.policy(method, 0.5, data.WORLDS[0], rivals.Classifier(), 0)
        assert isinstance(transform, ConstrainedAugment)
        assert transform.steps == rivals.CHAIN


# --- the law of short chains -----------------------------------------------------------------------------------------
def test_the_law_of_chains_by_hand() -> None:
    """Losses 1 and 3: from the small one a chain always goes to the other, back by a third; half of the proposals stay."""
    losses = torch.tensor([1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(rivals.law_of_chains(losses, 1), torch.tensor([0.5, 0.5], dtype=torch.float64))
    # 1/2 (1 - 1/2) + 1/2 (1/2 1/3) = 1/3
    torch.testing.assert_close(rivals.law_of_chains(losses, 2), torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    torch.testing.assert_close(rivals.law_of_chains(losses, 60), torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_the_law_of_chains_leaves_zero_and_never_enters_it() -> None:
    law = rivals.law_of_chains(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64), 2)
    third = 1 / 3
    expected = torch.tensor([[third * 2 / 3, third + 2 * third / 3, third * 2 / 3], [third] * 3], dtype=torch.float64)
    torch.testing.assert_close(law, expected)


def test_the_law_of_chains_is_balanced_in_detail(generator) -> None:
    """With pi proportional to the loss nothing flows: the law proportional to it stays, and pi_i P_ij is symmetric."""
    losses = torch.rand(6, generator=generator, dtype=torch.float64) + 0.1
    ratio = (losses[None] / losses[:, None]).clamp(max=1) / 6
    flow = losses[:, None] * ratio
    assert float((flow - flow.T).abs().max()) < 1e-12
    torch.testing.assert_close(rivals.law_of_chains(losses, 400), losses / losses.sum(), atol=1e-12, rtol=0)


def test_chains_of_training_have_their_own_law_and_not_that_of_the_loss() -> None:
    """The claim's p-value is small for the wrong law, so that it can fail."""
    group = _properties.Cyclic(8)
    own = _properties.law_of_the_ends(group, 20_000, 0, rivals.CHAIN, of_chains=True)
    other = _properties.law_of_the_ends(group, 20_000, 0, rivals.CHAIN, of_chains=False)
    assert own > 0.01
    assert other < 1e-6
    generator = torch.Generator().manual_seed(3)
    losses = torch.rand(5, generator=generator, dtype=torch.float64)
    for steps in (1, 3, 4):
        places = torch.randint(5, (steps, 30_000), generator=generator)
        ends = places.gather(0, metropolis(losses[places], generator)[None])[0]
        law = 30_000 * rivals.law_of_chains(losses, steps)
        assert chisquare(torch.bincount(ends, minlength=5).numpy(), law.numpy()).pvalue > 0.01


def test_what_training_draws_over_the_law(generator) -> None:
    """A model that does not look at its input draws as the law does; elsewhere short chains fall behind."""
    x, y = digits(60)

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 10)

    families = list(data.FAMILIES.values())
    assert rivals.drawn_over_law(Constant(), families, x, y, generator) == pytest.approx(1, abs=1e-12)
    uneven = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(196, 10))
    torch.nn.init.normal_(uneven[1].weight, std=3.0)
    assert 0.2 < rivals.drawn_over_law(uneven, families, x, y, generator) < 0.99


# --- what training tells ---------------------------------------------------------------------------------------------
def test_training_tells_multipliers_and_slacks() -> None:
    """With a limit that no network meets, multipliers grow and slacks stay positive; one that all meet leaves them alone."""
    split = data.sets(data.WORLDS[0], Sizes(40, 1, 1), 0)
    how = Training(torch.nn.functional.cross_entropy, 2, 20, system.RATES)
    for limit, meets in ((1e-3, False), (1e3, True)):
        torch.manual_seed(0)
        model = rivals.Classifier()
        rivals.by_number(rivals.EACH, data.WORLDS[0], 2e-3)(model, split, limit, how, torch.Generator().manual_seed(0))
        rest = {"drift of nu", "nu, last over largest", "violation / limit", "drawn / law"}
        assert set(model.found) == {*(f"nu {family}" for family in data.FAMILIES), *rest}
        assert all((model.found[f"nu {family}"] == 0) == meets for family in data.FAMILIES)
        assert (model.found["violation / limit"] == 0) == meets
        assert (model.found["drift of nu"] == 0) == meets


def test_drift_and_violation_by_hand(generator) -> None:
    """Eight steps: multipliers 4, 3 in the third quarter and 2, 1 in the last; slacks that alternate are met in the mean."""
    policy = ConstrainedAugment([data.RandomFamily()], rivals.Classifier(), rivals.each_loss, [2.0])
    watched = rivals.Watched(policy)
    watched.multipliers = [torch.tensor([float(value)]) for value in (5, 6, 6, 5, 4, 3, 2, 1)]
    watched.slacks = [torch.tensor([value]) for value in (9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 1.0, -1.0)]
    found = watched.found()
    assert found["nu all"] == pytest.approx(1.5)
    assert found["drift of nu"] == pytest.approx((3.5 - 1.5) / 3.5)
    assert found["nu, last over largest"] == pytest.approx(1.5 / 6)
    assert found["violation / limit"] == 0
    watched.slacks[-1] = torch.tensor([0.6])
    assert watched.found()["violation / limit"] == pytest.approx(0.8 / 2)
    x, y = digits(8)
    watched(x, y, generator=generator)
    assert torch.equal(watched.multipliers[-1], policy.multipliers)
    assert torch.equal(watched.slacks[-1], policy.slacks)


def test_rate_and_number_are_chosen_one_after_the_other(monkeypatch) -> None:
    """On data where a network of noise must lose: the number that `compare` chooses is not the learning rate."""
    monkeypatch.setattr(system, "METHODS", (rivals.NONE, rivals.RANDOM))
    budget = dataclasses.replace(
        system.BUDGETS["full"], seeds=2, pictures=Sizes(60, 40, 20), epochs=1, limits=(0.5, 0.25)
    )
    table = system.world_table(Run("full", budget=budget), data.WORLDS[0])
    for row in table.rows:
        rates = sorted(float(rate) for rate in row["rates tried"].split(", "))
        assert len(rates) == 3  # two, and one beyond the better of them
        assert row["learning rate"] in rates
        assert row["number"] in ((0.0,) if row["model"] == rivals.NONE else system.SHARES)
        assert row["seeds"] == 2


def test_claims_are_judged_seed_by_seed() -> None:
    """Accuracies by hand: the oracle ahead by 4 points in one world, conditions ahead of random in two of three."""

    def table(world: str, oracle: float, each: float, random: float, costly: str, drift: float = 0.1) -> Table:
        rows = []
        for method, value in zip(rivals.METHODS, (50.0, random, oracle, 50.0, 60.0, each), strict=True):
            rest = {"violation / limit": 0.01, "drift of nu": drift, "nu, last over largest": 0.3, "drawn / law": 0.7}
            prices = {f"nu {family}": float(family == costly) for family in data.FAMILIES}
            rows += [{"model": method, "seed": k, "accuracy": value + k, **rest, **prices} for k in range(3)]
        return Table(world, rows, Run("full"))

    tables = [table("a", 80, 79.5, 70, "turns"), table("b", 80, 76, 70, "shifts"), table("c", 80, 80, 80, "shifts")]
    held = table("d", 90, 85, 86, "shifts", drift=0.9)

    def judged(tables: list[Table]):
        return {claim.id: claim for claim in system.world_claims(tables, held).claims}

    claims = judged(tables)
    assert claims["close-to-the-oracle"].values == (4.0, 4.0, 4.0)
    assert claims["ahead-of-random"].values == (6.0, 6.0, 6.0)
    assert claims["ahead-of-adversarial"].values == pytest.approx(((29.5 + 26 + 30) / 3,) * 3)
    assert claims["ahead-of-none"].values == (10.0, 10.0, 10.0)
    assert claims["held-out-oracle"].values == (5.0, 5.0, 5.0)
    assert claims["held-out-random"].values == (-1.0, -1.0, -1.0)
    assert claims["training-draws-by-the-loss"].verdict == "fails"
    assert claims["multipliers-name-what-costs"].verdict == "holds"  # of the first world alone
    assert judged(tables[1:] + tables[:1])["multipliers-name-what-costs"].verdict == "fails"
    moving = judged([table("a", 80, 79.5, 70, "turns", drift=0.21), *tables[1:]])
    assert moving["multipliers-are-stationary"].verdict == "fails"
    assert moving["multipliers-name-what-costs"].verdict == "not settled"
    assert moving["multipliers-name-what-costs"].note == "multipliers still change by up to 0.21 of their size"


@pytest.mark.parametrize("limit", [1.0, 2.25])
def test_the_convex_problem_is_solved(limit) -> None:
    optimum, price = _properties.convex_errors(limit)
    assert optimum < 1e-3
    assert price < 0.02


def test_a_bad_limit_is_refused() -> None:
    with pytest.raises(ErlangenError, match="limits"):
        rivals.policy("constrained", 0.0, data.WORLDS[0], rivals.Classifier(), 0)
