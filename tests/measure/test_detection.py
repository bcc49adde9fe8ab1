"""Average precision against scikit-learn and by hand; errors of registrations; local distances of structures."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from erlangen.errors import DataError, ErlangenError, GroupElementError, ShapeError
from erlangen.geometry import oriented_iou
from erlangen.groups import SE, O
from erlangen.measure import average_precision, lddt, registration_errors


def near(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return -(a - b).norm(dim=-1)


def spots(*x: float) -> torch.Tensor:
    return torch.tensor([[v, 0.0] for v in x]).reshape(-1, 2)


def test_average_precision_by_hand() -> None:
    truth = [spots(0, 10), spots(5), spots()]
    # By score: right (1/1), false (1/2), right (2/3), a second one on a taken object (2/4), false in an empty scene.
    found = [
        (spots(0.1, 3, 0.2), torch.tensor([0.9, 0.8, 0.6])),
        (spots(5.4), torch.tensor([0.7])),
        (spots(1), torch.tensor([0.1])),
    ]
    assert average_precision(found, truth, near, at_least=-0.5) == pytest.approx((1 + 2 / 3) / 3)
    # 0.2 takes nothing although 10 is free: the best that is free is too far away.
    assert average_precision(found, truth, near, at_least=-0.3) == pytest.approx(1 / 3)
    assert average_precision([(t, torch.ones(len(t))) for t in truth], truth, near, at_least=0) == 1
    assert average_precision([(spots(), torch.zeros(0))] * 3, truth, near, at_least=0) == 0


def test_against_the_curve_of_scikit_learn() -> None:
    """Where every object is found, precision and recall are those of a ranking of right and false ones."""
    from sklearn.metrics import precision_recall_curve

    generator = torch.Generator().manual_seed(0)
    right = torch.rand(200, generator=generator) < 0.4
    score = torch.randn(200, generator=generator) + right
    objects = torch.stack([torch.arange(200.0), torch.where(right, 0.0, 99.0)], -1)
    truth = objects[right]
    got = average_precision([(objects, score)], [truth], near, at_least=-0.5)
    precision, recall, _ = precision_recall_curve(right, score)
    precision, recall = (torch.from_numpy(v.copy()).flip(0) for v in (precision, recall))  # by falling score
    best = precision.flip(0).cummax(0).values.flip(0)
    assert got == pytest.approx(float((recall.diff() * best[1:]).sum()))


def test_boxes_by_their_overlap() -> None:
    truth = [torch.tensor([[0.0, 0, 4, 2, 0.3], [9.0, 0, 4, 2, 0.0]])]
    found = [(truth[0] + torch.tensor([[0.1, 0, 0, 0, 0], [3.0, 0, 0, 0, 0]]), torch.tensor([0.2, 0.9]))]
    assert average_precision(found, truth, oriented_iou, at_least=0.5) == pytest.approx(0.25)
    assert average_precision(found, truth, oriented_iou, at_least=0.1) == pytest.approx(1.0)


def test_registration_errors_of_known_motions() -> None:
    true = SE(3).sample(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = [0.0, 5.0, 20.0, 180.0]
    found = true.clone()
    for i, angle in enumerate(angles):
        off = Rotation.from_rotvec(math.radians(angle) * torch.nn.functional.normalize(torch.ones(3), dim=0).numpy())
        found[i, :3, :3] = true[i, :3, :3] @ torch.from_numpy(off.as_matrix())
        found[i, 0, 3] += 0.1 * i
    errors = registration_errors(found, true)
    torch.testing.assert_close(errors.degrees, torch.tensor(angles, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(errors.distance, torch.tensor([0, 0.1, 0.2, 0.3], dtype=torch.float64))
    assert errors.recall == 0.5
    assert (errors.mean_degrees, errors.mean_distance) == (pytest.approx(2.5, abs=1e-5), pytest.approx(0.05))
    assert registration_errors(found, true, degrees=4, distance=1).recall == 0.25
    single = registration_errors(found.float(), true.float())
    assert single.recall == 0.5
    assert math.isnan(registration_errors(found[2:], true[2:]).mean_degrees)


def test_lddt_by_a_loop_and_under_motions() -> None:
    generator = torch.Generator().manual_seed(0)
    true = 6 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    model = true + torch.randn(30, 3, generator=generator, dtype=torch.float64)
    due = []
    for i in range(30):
        shares = [
            float(abs((model[i] - model[j]).norm() - (true[i] - true[j]).norm()) < bound)
            for j in range(30)
            for bound in (0.5, 1.0, 2.0, 4.0)
            if j != i and (true[i] - true[j]).norm() < 15
        ]
        due.append(sum(shares) / len(shares))
    got = lddt(model, true)
    torch.testing.assert_close(got, torch.tensor(due, dtype=torch.float64))
    assert 0.3 < float(got.mean()) < 0.9
    g = O(3).sample(2, generator=generator, dtype=torch.float64)
    moved = torch.stack([model @ h.mT + 9 for h in g])
    torch.testing.assert_close(lddt(moved, true.expand(2, -1, -1)), got.expand(2, -1))
    residues = torch.arange(30) // 3
    assert not torch.allclose(lddt(model, true, residue=residues), got)
    alone = lddt(torch.zeros(2, 3), torch.tensor([[0.0, 0, 0], [99.0, 0, 0]]))
    assert bool(alone.isnan().all())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: average_precision([], [spots(1)], near, at_least=0), DataError, "found has 0 scenes and truth 1"),
        (
            lambda: average_precision([(spots(1), torch.ones(2))], [spots(1)], near, at_least=0),
            ShapeError,
            "scene 0 has 1",
        ),
        (lambda: average_precision([(spots(1), torch.ones(1))], [spots()], near, at_least=0), DataError, "no recall"),
        (
            lambda: average_precision([(spots(1), torch.ones(1) / 0 * 0)], [spots(1)], near, at_least=0),
            DataError,
            "NaN",
        ),
        (
            lambda: average_precision([(spots(1), torch.ones(1))], [spots(1)], near, at_least=math.nan),
            ErlangenError,
            "at_least",
        ),
        (
            lambda: average_precision([(spots(1), torch.ones(1))], [spots(1, 2)], lambda a, b: a, at_least=0),
            ShapeError,
            r"it must give \[F, T\] = \(1, 2\)",
        ),
        (lambda: registration_errors(torch.eye(4), torch.eye(4)), ShapeError, r"give both \[B, 4, 4\]"),
        (lambda: registration_errors(torch.eye(4)[None], 2 * torch.eye(4)[None]), GroupElementError, "true"),
        (
            lambda: registration_errors(torch.eye(4)[None], torch.eye(4)[None], degrees=-1),
            ErlangenError,
            "not negative",
        ),
        (lambda: lddt(torch.zeros(4, 3), torch.zeros(5, 3)), ShapeError, r"give both \[..., N, 3\]"),
        (lambda: lddt(torch.zeros(4, 3), torch.zeros(4, 3), within=0), ErlangenError, "give positive numbers"),
        (lambda: lddt(torch.zeros(4, 3), torch.zeros(4, 3), residue=torch.zeros(3)), ShapeError, r"give \[4\]"),
        (lambda: lddt(torch.zeros(4, 3), torch.zeros(4, 3) / 0), DataError, "true has entries that are not finite"),
        (lambda: lddt(torch.zeros(4, 3) / 0, torch.zeros(4, 3)), DataError, "found has entries that are not finite"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()
