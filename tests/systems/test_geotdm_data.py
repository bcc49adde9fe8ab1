"""Trajectory diffusion: scores of generated motions, and its data beside particles: pedestrians and molecules."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erlangen.errors import DataError, MissingExtraError
from erlangen.groups import O
from erlangen.survey import Run, Sizes
from erlangen.systems.motion.geotdm import _models as models
from erlangen.systems.motion.geotdm import _scores as scores
from erlangen.systems.motion.geotdm import data
from erlangen.systems.motion.geotdm import experiment as system
from erlangen.systems.motion.geotdm._models import diffusion
from erlangen.systems.motion.geotdm.data import motions, whole
from erlangen.systems.motion.geotdm.experiment import OURS
from erlangen.systems.motion.geotdm.rivals import Regression

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(a: Tensor, b: Tensor, tol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- scores ----------------------------------------------------------------------------------------------------------
def test_a_classifier_finds_what_differs() -> None:
    """Near chance on other data of the same kind, next to nothing where every step has another length."""
    x = whole(motions("springs", 200, OURS, 0))["pos"]
    same = scores.classification_score(x[:100], x[100:], 0)
    other = scores.classification_score(1.5 * x[:100], x[100:], 0)
    assert same["classifier's cross-entropy"] > 0.55
    assert other["classifier's cross-entropy"] < 0.2
    assert other["classifier's accuracy"] > 0.9


def test_a_forecaster_learns_more_from_data() -> None:
    train, test = (whole(motions("springs", 60, OURS, seed))["pos"] for seed in (0, 1))
    shuffled = train[:, torch.randperm(15, generator=seeded())]

    def error(pos: Tensor) -> float:
        make = functools.partial(Regression, {"past": pos[:, :5], "pos": pos[:, 5:]}, 16, 2)
        return scores.forecaster_error(make, pos, test, 5, 0)

    assert error(train) < error(shuffled)


# --- pedestrians and molecules ---------------------------------------------------------------------------------------
def test_motion_in_the_plane_with_padding() -> None:
    """Two dimensions, masks: samples turn with the scene, and people who do not exist have no influence."""
    x = {
        "past": torch.randn(3, 8, 4, 2, generator=seeded(), dtype=F64),
        "pos": torch.randn(3, 12, 4, 2, generator=seeded(1), dtype=F64),
        "mask": torch.arange(4) < torch.tensor([[4], [2], [1]]),
    }
    single = {name: value if name == "mask" else value.float() for name, value in x.items()}
    model = diffusion("GeoTDM, learned prior", single, system.BUDGETS["smoke"]).double()
    noise = torch.randn(4, 3, 12, 4, 2, generator=seeded(2), dtype=F64)
    turn = O(2).sample(1, generator=seeded(), dtype=F64)
    drawn = model.sample(x, steps=4, noise=noise)
    exist = x["mask"][:, None, :, None]
    turned = model.sample({**x, "past": x["past"] @ turn.mT + 3}, steps=4, noise=noise @ turn.mT)
    close(turned * exist, (drawn @ turn.mT + 3) * exist, 1e-9)
    moved = {**x, "past": torch.where(exist, x["past"], x["past"] + 7)}
    close(model.sample(moved, steps=4, noise=noise) * exist, drawn * exist, 1e-9)


def test_pedestrians_of_a_scene_left_out(shared_data: Path) -> None:
    folder = shared_data / "eth_ucy"
    x = data.scene_motions(folder, "Zara 1", 20)
    assert x["past"].shape[1:] == (8, 8, 2)
    assert x["pos"].shape[1:] == (12, 8, 2)
    last = (x["past"][:, -1] * x["mask"][..., None]).sum(1)
    close(last, torch.zeros_like(last), 1e-3)
    budget = dataclasses.replace(system.BUDGETS["smoke"], motions=Sizes(60, 10, 20), epochs=10, stride=60)
    table, claims = system.pedestrian_parts(Run("smoke", 0, budget), str(folder))
    best = {row["model"]: row["best ADE"] for row in table.rows}
    assert set(best) == {
        models.LEARNED,
        models.LONG,
        models.REGRESSION,
        models.MANY,
        models.SCATTERED,
        models.KEPT,
    }
    assert best[models.LEARNED] < best[models.KEPT]
    assert best[models.SCATTERED] < best[models.KEPT]  # twenty answers against one
    assert [claim.id for claim in claims.claims] == [
        "pedestrians-beats-drift",
        "pedestrians-beats-regression",
        "pedestrians-beats-plain",
    ]


def test_folder_without_pedestrians(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no biwi_eth.txt, .*crowds_zara02.txt"):
        system.experiment(Run("smoke", 0, system.BUDGETS["smoke"]), pedestrians=str(tmp_path))


def test_pieces_of_a_molecules_motion() -> None:
    pytest.importorskip("tblite")
    train, validation, test = (x for x, _ in data.ethanol_split(Sizes(2, 1, 1), 160, OURS, 0, 8))
    assert train["past"].shape[1:] == (5, 9, 3)
    assert train["pos"].shape[1:] == (10, 9, 3)
    assert train["node"].sum((0, 1)).tolist() == [2 * len(train["pos"]), len(train["pos"]), 6 * len(train["pos"])]
    close(train["past"][1, 0], train["past"][0, 2])
    half = len(train["past"]) // 2  # the second trajectory is another one, turned otherwise
    assert float((train["past"][half] - train["past"][half - 1]).abs().max()) > 0.5
    assert len(test["pos"]) == 8
    known = {tuple(row) for x in (train, validation) for row in x["pos"][:, 0, 0].tolist()}
    assert known.isdisjoint(tuple(row) for row in test["pos"][:, 0, 0].tolist())
    bond = (test["pos"][:, :, 0] - test["pos"][:, :, 1]).norm(dim=-1)
    assert 1.3 < float(bond.min()) < float(bond.max()) < 1.8  # of the two carbons, in Angstrom


def test_molecules_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on, and says what is missing."""

    def missing(*_: object) -> None:
        raise MissingExtraError("tblite", "molecules", "a test")

    monkeypatch.setattr(data, "ethanol_split", missing)
    claims = system.ethanol_part(Run("smoke", 0, system.BUDGETS["smoke"])).claims
    assert {claim.id for claim in claims} == set(system.ETHANOL)
    assert all(claim.verdict == "not measurable here" and "tblite" in claim.threshold for claim in claims)
