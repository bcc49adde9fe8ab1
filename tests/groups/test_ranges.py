"""Ranges: which elements they hold, that draws are even in them, and what is refused. Laws are closed forms or scipy's."""

import math

import pytest
import torch
from scipy import stats

import erlangen as er
from erlangen.groups import Domain, ProductRange, Range, domain

RANGES = [
    er.SO(2).within(degrees=15),
    er.SO(3).within(degrees=15),
    er.SO(4).within(degrees=40),
    er.SO(5).within(degrees=170),
    er.Translation(1).within(2),
    er.Translation(3).within(distance=0.5),
    er.SE(2).within(degrees=15, distance=3),
    er.SE(3).within(degrees=15),
    er.Scaling(2).within(factor=1.2),
    er.groups.CSO(3).within(degrees=30, factor=2),
    er.Similarity(2).within(degrees=5, distance=1, factor=1.5),
    er.SemidirectProduct(er.Cyclic(8)).within(degrees=45, distance=2),
    er.Cyclic(12).within(degrees=60),
    er.Octahedral().within(degrees=90),
    er.Shifts(8, 9).within(2),
    er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0]).within(degrees=20),
    ProductRange(er.SE(2).within(degrees=15, distance=3), er.Symmetric(4)),
]


def drawn(part: Domain, n: int = 500) -> torch.Tensor:
    return part.sample(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("part", RANGES, ids=repr)
def test_a_range_is_a_symmetric_set_with_the_identity(part: Range) -> None:
    g = drawn(part)
    group = part.group
    assert bool(group.contains(g).all())
    assert bool(part.contains(g).all())
    if not isinstance(group, er.Similarity):  # the inverse of x -> s x + t shifts by t / s
        assert bool(part.contains(group.inverse(g)).all())
    assert bool(part.contains(group.identity(dtype=torch.float64)[None]).all())
    part.check(g)
    assert not bool(part.contains(group.sample(200, generator=torch.Generator().manual_seed(1))).all())
    assert drawn(part).equal(g)
    assert part.sample((2, 3)).shape == (2, 3, *group.shape)
    if "Stabilizer" not in part.name:  # such names are descriptions, for whole groups too
        assert domain(part.name) == part


@pytest.mark.parametrize("part", RANGES, ids=repr)
def test_clamped_elements_lie_in_the_range_and_others_stay(part: Range) -> None:
    inside = drawn(part)
    assert torch.allclose(part.clamp(inside).double(), inside.double(), atol=1e-9)
    if part.group.dim:
        far = part.group.compose(inside, part.group.exp(torch.randn(500, part.group.dim, dtype=torch.float64)))
        assert bool(part.contains(part.clamp(far), 1e-6).all())


def uniform(values: torch.Tensor) -> bool:
    """Whether values are like draws from [0, 1] for Kolmogorov and Smirnov."""
    return stats.kstest(values.double().numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("degrees", [1e-3, 15, 100, 180])
def test_rotations_of_space_have_the_law_of_haar_measure_within_the_angle(degrees: float) -> None:
    """The share of rotations by at most t is (t - sin t) / (limit - sin limit); axes are even on the sphere."""
    limit = math.radians(degrees)
    vectors = er.SO(3).log(drawn(er.SO(3).within(degrees=degrees), 4000))
    angle = vectors.norm(dim=-1)

    def volume(t: torch.Tensor) -> torch.Tensor:  # t - sin t, also where it is far below rounding
        return torch.where(t < 1e-2, t**3 / 6 - t**5 / 120, t - t.sin())

    assert uniform(volume(angle) / volume(torch.tensor(limit, dtype=torch.float64)))
    assert uniform((vectors[:, 2] / angle + 1) / 2)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_rotations_are_what_rejection_from_haar_measure_leaves(n: int) -> None:
    """scipy draws from all of SO(n); those within the angle have the traces and entries of ours."""
    limit = 140
    rotations = torch.from_numpy(stats.special_ortho_group(dim=n, seed=0).rvs(6000))
    inside = rotations[torch.linalg.eigvals(rotations).angle().abs().amax(-1) <= math.radians(limit)]
    ours = drawn(er.SO(n).within(degrees=limit), 4000)
    for number in (lambda g: g.diagonal(dim1=-2, dim2=-1).sum(-1), lambda g: g[:, 0, 1], lambda g: (g @ g)[:, 0, 0]):
        assert stats.ks_2samp(number(ours).numpy(), number(inside).numpy()).pvalue > 1e-3


def test_turns_about_one_axis_are_even_within_the_angle() -> None:
    axis = er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0])
    g = drawn(axis.within(degrees=20), 3000)
    assert uniform((torch.atan2(g[:, 1, 0], g[:, 0, 0]) / math.radians(20) + 1) / 2)


def test_shifts_are_even_in_the_ball_and_scales_in_their_logarithm() -> None:
    shift = er.Translation(3).translation(drawn(er.Translation(3).within(2.0), 3000))
    assert uniform((shift.norm(dim=-1) / 2) ** 3)
    both = er.Similarity(2).within(distance=2.0, factor=3.0, degrees=10)
    g = drawn(both, 3000)
    linear = er.Similarity(2).linear(g)
    scale = torch.linalg.det(linear).sqrt()
    assert uniform((scale.log() / math.log(3.0) + 1) / 2)
    assert uniform((torch.atan2(linear[:, 1, 0], linear[:, 0, 0]) / math.radians(10) + 1) / 2)


def test_finite_ranges_list_their_elements() -> None:
    assert er.Cyclic(8).within(degrees=90).elements().tolist() == [0, 1, 2, 6, 7]
    assert er.Cyclic(2).within(degrees=90).elements().tolist() == [0]
    assert er.Octahedral().within(degrees=90).order == 1 + 6  # and 3 by 180, 8 by 120, 6 by 180 degrees
    assert er.Octahedral().within(degrees=120).order == 1 + 6 + 8
    shifts = {tuple(g) for g in er.Shifts(8, 9).within(2).elements().tolist()}
    assert shifts == {(a % 8, b % 9) for a in range(-2, 3) for b in range(-2, 3) if a * a + b * b <= 4}
    counts = drawn(er.Cyclic(8).within(degrees=45), 6000).bincount()
    assert counts[[2, 3, 4, 5, 6]].sum() == 0
    assert stats.chisquare(counts[[0, 1, 7]].numpy()).pvalue > 1e-3


def test_lines_have_grids_with_their_ends() -> None:
    angles = er.SO(2).log(er.SO(2).within(degrees=15).grid(3, dtype=torch.float64))[:, 0]
    assert torch.allclose(angles, torch.deg2rad(torch.tensor([-15.0, 0.0, 15.0], dtype=torch.float64)))
    scales = er.Scaling(2).within(factor=4.0).grid(3, dtype=torch.float64)[:, 0, 0]
    assert torch.allclose(scales, torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64))
    turns = er.Stabilizer(er.SO(3), [0.0, 0.0, 1.0]).within(degrees=20).grid(5, dtype=torch.float64)
    assert torch.allclose(er.groups.rotation_angle(turns), torch.tensor([20.0, 10, 0, 10, 20]).deg2rad().double())


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("SO(2) within 15 degrees", er.SO(2).within(degrees=15)),
        ("SO2 within 15°", er.SO(2).within(degrees=15)),
        ("Translation(2) within 3", er.Translation(2).within(3)),
        ("Shifts(28,28) within 3 pixels", er.Shifts(28, 28).within(3)),
        ("SE(2) within 15 degrees and 3 pixels", er.SE(2).within(degrees=15, distance=3)),
        ("Scaling(1) within factor 1.5", er.Scaling(1).within(factor=1.5)),
        ("SO(3) within 1e1 deg x S5", ProductRange(er.SO(3).within(degrees=10), er.Symmetric(5))),
        ("SO(3)", er.SO(3)),
    ],
)
def test_names(text: str, part: Domain) -> None:
    assert domain(text) == part
    symmetry = er.Symmetry(text, input="invariant", output="invariant")
    assert symmetry.domain == part
    assert (symmetry.within is None) == (text == "SO(3)")
    assert repr(part) in repr(symmetry)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: er.O(3).within(degrees=15), "mirrors"),
        (lambda: er.Dihedral(4).within(degrees=15), "mirrors"),
        (lambda: er.SL(2).within(degrees=15), "no rotations of its own"),
        (lambda: er.Cyclic(1).within(degrees=15), "no rotations of its own"),
        (lambda: er.SO(6).within(degrees=15), "up to R.5"),
        (lambda: er.SO(2).within(15), "degrees="),
        (lambda: er.SO(2).within(), "degrees="),
        (lambda: er.SO(2).within(distance=1), "has no shifts"),
        (lambda: er.Symmetric(3).within(2), "none: ranges are of rotations"),
        (lambda: er.SO(2).within(degrees=190), "up to 180"),
        (lambda: er.SO(2).within(degrees=math.nan), "up to 180"),
        (lambda: er.Translation(2).within(0), "positive length"),
        (lambda: er.Scaling(2).within(factor=0.5), "above 1"),
        (lambda: er.DirectProduct(er.SO(2), er.SO(2)).within(degrees=3), "ProductRange"),
        (lambda: domain("SO(2) within 3 meters"), "cannot be read"),
        (lambda: domain("SO(2) within 3 degrees and 4 degrees"), "two limits"),
        (lambda: domain("SO(2) within"), "unknown group"),
        (lambda: er.group("SO(2) within 3 degrees"), "range is no group"),
        (lambda: er.SO(2).within(degrees=15).elements(), "infinite"),
        (
            lambda: er.SO(2).within(degrees=15).check(er.SO(2).exp(torch.ones(1, 1))),
            "outside of SO.2. within 15 degrees",
        ),
    ],
)
def test_refused(wrong, words: str) -> None:
    with pytest.raises(er.ErlangenError, match=words):
        wrong()


# --- in the verbs ----------------------------------------------------------------------------------------------------
def turned_far(x: torch.Tensor) -> torch.Tensor:
    """How far the first vector points away from e1: grows with every rotation up to 180 degrees."""
    return 2 - x[:, :1, 0] / x[:, 0].norm(dim=-1, keepdim=True)


UPRIGHT = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)


def test_an_audit_stays_in_the_range_and_finds_its_worst_element_there() -> None:
    symmetry = er.Symmetry("SO(2) within 15 degrees", input="vectors", output="invariant")
    report = er.audit(turned_far, symmetry, UPRIGHT)
    assert report.symmetry.group == er.SO(2)
    assert report.certificate == "statistical"
    assert not report.orbit.closed
    # f(gx) - f(x) = 1 - cos(angle), and f(x) = 1: largest at the ends, which the grid holds.
    assert report.worst_error == pytest.approx(1 - math.cos(math.radians(15)), rel=1e-9)
    worst = er.worst_case(turned_far, symmetry, UPRIGHT, elements=5)
    assert worst.score == pytest.approx(1 - math.cos(math.radians(15)), rel=1e-9)
    assert report.to_dict()["symmetry"]["group"] == "SO(2) within 15 degrees"
    assert report.to_dict()["error"]["max_at"]["name"] in ("rotation by 15°", "rotation by -15°")
    assert "SO(2) within 15 degrees" in report.to_html()
    with pytest.raises(er.errors.GroupElementError, match="outside"):
        er.audit(turned_far, symmetry, UPRIGHT, elements=er.SO(2).grid(8, dtype=torch.float64))


def test_the_worst_element_is_searched_up_to_the_border() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64)
    symmetry = er.Symmetry(er.SE(3).within(degrees=15, distance=0.1), input="vectors", output="invariant")
    worst = er.worst_case(turned_far, symmetry, x, elements=64, rounds=40)
    assert bool(symmetry.within.contains(worst.element))
    assert worst.score == pytest.approx(1 - math.cos(math.radians(15)), rel=1e-3)
    assert worst.score > worst.grid


@pytest.mark.parametrize("part", RANGES, ids=repr)
def test_every_range_is_drawn_in_a_report(part: Range) -> None:
    count = part.group.space_dim
    product = isinstance(part, ProductRange)
    action = er.actions.Factors((er.actions.Points(), er.actions.Permuted())) if product else "points"
    action = "rolled" if isinstance(part.group, er.Shifts) else action
    shape = (3, 8, 9) if action == "rolled" else (3, 4, 2 if product else count)
    report = er.audit(
        lambda x: x.flatten(1)[:, :1],
        er.Symmetry(part, input=action, output="invariant"),
        torch.randn(shape),
        elements=20,
    )
    report.plot()
    assert part.name.replace("<", "") in report.to_html()


def test_augmentation_draws_from_the_range() -> None:
    symmetry = er.Symmetry("SO(2) within 15 degrees", input="vectors", output="invariant")
    moved = er.augment(symmetry)(UPRIGHT.expand(3000, 1, 2), generator=torch.Generator().manual_seed(0))
    angle = torch.atan2(moved[:, 0, 1], moved[:, 0, 0])
    assert uniform((angle / math.radians(15) + 1) / 2)


def test_discover_ranks_ranges_of_a_model() -> None:
    """A model that looks at the angle alone from 30 degrees on: invariant near the identity, not beyond."""

    def steps(x: torch.Tensor) -> torch.Tensor:
        angle = torch.atan2(x[:, 0, 1], x[:, 0, 0]).abs()
        return torch.relu(angle - math.radians(30))[:, None] + x.norm(dim=-1)

    x = torch.rand(20, 1, 1, dtype=torch.float64) * UPRIGHT
    near, far = (er.Symmetry(f"SO(2) within {a} degrees", input="vectors", output="invariant") for a in (25, 60))
    found = er.discover(steps, [far, near], x)
    assert [(f.symmetry, f.holds) for f in found] == [(near, True), (far, False)]


def test_discover_in_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 2, generator=generator, dtype=torch.float64)
    turns = [er.Symmetry("SO(2) within 40 degrees", input="vectors", output="invariant")]
    assert er.discover(data=(x, x.norm(dim=1, keepdim=True)), candidates=turns)[0].holds
    assert not er.discover(data=(x, x[:, :1]), candidates=turns)[0].holds


def test_a_true_range_is_rarely_contradicted() -> None:
    """At most one in forty by the test, however many moves; with 40 data sets six are too many (chance 1e-4)."""
    turns = [er.Symmetry("SO(2) within 30 degrees", input="vectors", output="invariant")]
    rejected = 0
    for seed in range(40):
        x = torch.randn(60, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        noise = 0.3 * torch.randn(60, 1, generator=torch.Generator().manual_seed(1000 + seed), dtype=torch.float64)
        rejected += not er.discover(data=(x, x.norm(dim=1, keepdim=True) + noise), candidates=turns)[0].holds
    assert rejected <= 5


def test_relax_measures_the_range() -> None:
    symmetry = er.Symmetry("SO(2) within 1e-6 degrees", input="vectors", output="invariant")
    whole = er.Symmetry("SO(2)", input="vectors", output="invariant")
    x = torch.randn(50, 2)
    penalty = er.relax(torch.nn.Linear(2, 1), [symmetry, whole])
    near, far = penalty.violations(x)
    assert near < 1e-9 < 1e-2 < far


def test_no_average_over_a_range() -> None:
    symmetry = er.Symmetry("SO(2) within 15 degrees", input="vectors", output="invariant")
    with pytest.raises(er.errors.SymmetryError, match="no group"):
        er.symmetrize(torch.nn.Linear(2, 1), symmetry)
    with pytest.raises(er.errors.SymmetryError, match="no group"):
        er.relax(torch.nn.Linear(2, 1), [symmetry], method="projection", representations=[er.reps.V, er.reps.V])
