"""Frames: equivariance as sets, closed forms, independent decompositions, and what degenerate inputs report."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erlangen.enforce import Frame, FrameSet, OrbitFrame, PCAFrame, PointsFrame
from erlangen.errors import ActionError, GroupError, OrbitError, ShapeError
from erlangen.groups import (
    CSO,
    SE,
    SL,
    SO,
    Cyclic,
    E,
    Group,
    O,
    Octahedral,
    Scaling,
    Similarity,
    Symmetric,
    Translation,
)
from erlangen.symmetry import Symmetry

GROUPS: list[Group] = [
    *(O(n) for n in (2, 3, 5)),
    *(SO(n) for n in (2, 3, 4)),
    *(E(n) for n in (2, 3)),
    *(SE(n) for n in (2, 3, 4)),
    Translation(3),
    Scaling(2),
    CSO(3),
    Similarity(3),
]


def cloud(batch: int, count: int, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Clouds with well separated axes (standard deviations 1, 2, ...), no symmetry, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, count, n, generator=generator, dtype=torch.float64)
    x = x + 0.4 * x.square()
    return (x * torch.arange(1, n + 1) + 0.3).to(dtype)


def distances(group: Group, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Distance of every element of `left` to the closest of `right`, ``[B, K]``."""
    flat = left.flatten(2)[:, :, None] - right.flatten(2)[:, None]
    return flat.norm(dim=-1).amin(-1)


def spectrum(frames: FrameSet) -> torch.Tensor:
    assert frames.spectrum is not None
    return frames.spectrum


def points(group: Group, output: str = "points") -> Symmetry:
    return Symmetry(group, input="points", output=output)


# --- equivariance ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize("group", GROUPS, ids=str)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_frames_are_equivariant_as_sets(group: Group, canonical: bool, seed: int) -> None:
    symmetry = points(group)
    frame = PCAFrame(symmetry, canonical=canonical)
    x = cloud(4, 9, group.space_dim, seed)
    g = group.sample(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = frame(symmetry.input.act(g, x)).elements
    composed = group.compose(g[:, None], frame(x).elements)
    scale = composed.abs().amax()
    # The gap of random clouds is rarely below 1e-3; rounding turns axes by about 1e-16 / gap.
    tolerance = 1e-10 * scale / frame(x).gap.clamp(max=1).min().clamp(min=1e-3)
    assert distances(group, moved, composed).amax() < tolerance
    assert distances(group, composed, moved).amax() < tolerance


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_elements_belong_to_the_group_and_are_all_different(group: Group) -> None:
    frames = PCAFrame(points(group))(cloud(3, 7, group.space_dim))
    n = group.space_dim
    expected = 2**n if isinstance(group, (O, E)) else 2 ** (n - 1)
    expected = 1 if isinstance(group, (Translation, Scaling)) else expected
    assert frames.elements.shape == (3, expected, *group.shape)
    assert frames.elements.dtype == torch.float64
    assert bool(group.contains(frames.elements).all())
    torch.testing.assert_close(frames.weights.sum(-1), torch.ones(3, dtype=torch.float64))
    gaps = torch.cdist(frames.elements[0].flatten(1), frames.elements[0].flatten(1))
    assert (gaps + 10 * torch.eye(expected)).min() > 0.5


def test_axes_are_the_singular_vectors_in_columns() -> None:
    x = cloud(6, 20, 3)
    frames = PCAFrame(points(E(3)))(x)
    for sample, elements in zip(x.numpy(), frames.elements.numpy(), strict=True):
        centred = sample - sample.mean(0)
        rows = np.linalg.svd(centred)[2]
        axes = rows[::-1].T
        for element in elements:
            overlap = axes.T @ element[:3, :3]
            np.testing.assert_allclose(np.abs(overlap), np.eye(3), atol=1e-10)
            np.testing.assert_allclose(element[:3, 3], sample.mean(0), atol=1e-12)
    lengths = np.linalg.svd((x - x.mean(1, keepdim=True)).numpy(), compute_uv=False)
    np.testing.assert_allclose(spectrum(frames).numpy(), lengths[:, ::-1] ** 2, rtol=1e-10)


def test_signs_are_all_signs_on_columns() -> None:
    x = cloud(1, 20, 3)
    full = PCAFrame(points(O(3)))(x).elements[0]
    signs = torch.diagonal(full[0].mT @ full, dim1=-2, dim2=-1).round()
    assert {tuple(s) for s in signs.tolist()} == set(itertools.product((1.0, -1.0), repeat=3))
    proper = PCAFrame(points(SO(3)))(x).elements[0]
    torch.testing.assert_close(torch.linalg.det(proper), torch.ones(4, dtype=torch.float64))


def test_gap_and_spectrum_have_closed_forms() -> None:
    # Points +-a e1, +-b e2, +-c e3 have eigenvalues 2 a^2, 2 b^2, 2 c^2.
    lengths = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    x = torch.cat([torch.diag(lengths), -torch.diag(lengths)])[None]
    frames = PCAFrame(points(SE(3)))(x)
    torch.testing.assert_close(spectrum(frames), 2 * lengths.square()[None])
    torch.testing.assert_close(
        frames.gap,
        torch.tensor([(8.0 - 2.0) / 18.0], dtype=torch.float64).minimum(
            torch.tensor([(18.0 - 8.0) / 18.0], dtype=torch.float64)
        ),
    )


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_any_unit_of_length_gives_the_same_axes(scale: float) -> None:
    x = cloud(3, 8, 3)
    small, normal = (PCAFrame(points(O(3)))(s * x) for s in (scale, 1.0))
    torch.testing.assert_close(small.elements.abs(), normal.elements.abs())
    torch.testing.assert_close(small.gap, normal.gap)


def test_scale_and_origin_are_root_mean_square_and_centroid() -> None:
    x = cloud(3, 8, 2)
    element = PCAFrame(points(Similarity(2)))(x).elements[:, 0]
    expected = (x - x.mean(1, keepdim=True)).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(torch.linalg.det(element[:, :2, :2]).sqrt(), expected)
    torch.testing.assert_close(element[:, :2, 2], x.mean(1))


def test_translations_alone_are_one_centroid() -> None:
    x = cloud(3, 8, 2)
    frames = PCAFrame(points(Translation(2)))(x)
    torch.testing.assert_close(frames.elements[:, 0, :2, 2], x.mean(1))
    assert bool(frames.gap.isinf().all())


# --- several parts, masks and weights --------------------------------------------------------------------------------
def test_covariance_sums_over_points_and_vectors() -> None:
    symmetry = Symmetry(SE(3), input={"pos": "points", "vel": "vectors"}, output="invariant")
    pos, vel = cloud(1, 5, 3, 1), 2 * cloud(1, 4, 3, 2)
    frames = PCAFrame(symmetry)({"pos": pos, "vel": vel})
    centred = (pos - pos.mean(1, keepdim=True))[0].numpy()
    values = np.linalg.eigvalsh(centred.T @ centred + vel[0].numpy().T @ vel[0].numpy())
    np.testing.assert_allclose(spectrum(frames)[0].numpy(), values, rtol=1e-10)
    np.testing.assert_allclose(frames.elements[0, :, :3, 3].numpy(), np.tile(pos[0].mean(0).numpy(), (4, 1)))


def test_two_located_parts_share_a_centroid() -> None:
    symmetry = Symmetry(Translation(3), input=("points", "points"), output="invariant")
    a, b = cloud(2, 5, 3, 1), cloud(2, 3, 3, 2)
    centre = PCAFrame(symmetry)((a, b)).elements[:, 0, :3, 3]
    torch.testing.assert_close(centre, torch.cat([a, b], 1).mean(1))


@pytest.mark.parametrize("canonical", [False, True])
def test_masked_rows_do_not_exist_even_if_they_are_nan(canonical: bool) -> None:
    frame = PCAFrame(points(SE(3)), canonical=canonical)
    x = cloud(3, 6, 3)
    padded = torch.cat([x, torch.full((3, 2, 3), math.nan, dtype=x.dtype)], 1)
    mask = torch.tensor([True] * 6 + [False] * 2).expand(3, -1)
    torch.testing.assert_close(frame(padded, mask).elements, frame(x).elements, rtol=0, atol=1e-12)


@pytest.mark.parametrize("canonical", [False, True])
def test_integer_weights_repeat_points(canonical: bool) -> None:
    frame = PCAFrame(points(Similarity(3)), canonical=canonical)
    x = cloud(2, 4, 3)
    weights = torch.tensor([3.0, 1.0, 0.0, 2.0]).expand(2, -1)
    repeated = x[:, [0, 0, 0, 1, 3, 3]]
    weighted, plain = frame(x, weights), frame(repeated)
    torch.testing.assert_close(weighted.elements.abs(), plain.elements.abs(), rtol=0, atol=1e-10)
    torch.testing.assert_close(weighted.gap, plain.gap)


def test_a_mask_that_fits_no_part_is_named() -> None:
    with pytest.raises(ShapeError, match=r"mask has shape \(2, 5\).*\(2, 4, 3\)"):
        PCAFrame(points(SE(3)))(cloud(2, 4, 3), torch.ones(2, 5, dtype=torch.bool))


def test_no_points_at_all() -> None:
    with pytest.raises(ShapeError, match="no points"):
        PCAFrame(points(SE(3)))(torch.zeros(2, 0, 3))


# --- canonical -------------------------------------------------------------------------------------------------------
def test_canonical_axes_have_positive_third_moments() -> None:
    x = cloud(10, 12, 3)
    centred = x - x.mean(1, keepdim=True)
    axes = PCAFrame(points(E(3)), canonical=True)(x).elements[:, 0, :3, :3]
    assert bool(((centred @ axes) ** 3).sum(1).gt(0).all())
    proper = PCAFrame(points(SE(3)), canonical=True)(x).elements[:, 0, :3, :3]
    assert bool(((centred @ proper) ** 3).sum(1)[:, 1:].gt(0).all())
    torch.testing.assert_close(torch.linalg.det(proper), torch.ones(10, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_point_symmetric_clouds_have_no_canonical_frame(dtype: torch.dtype) -> None:
    x = cloud(4, 6, 3)
    symmetric = torch.cat([x, -x], 1) @ SO(3).sample(4, generator=torch.Generator(), dtype=torch.float64).mT
    assert bool((PCAFrame(points(E(3)), canonical=True)(symmetric.to(dtype)).gap == 0).all())
    assert bool((PCAFrame(points(E(3)))(symmetric.to(dtype)).gap > 1e-3).all())


def test_planar_clouds_are_canonical_under_rotations() -> None:
    flat = cloud(4, 6, 3) * torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    assert bool((PCAFrame(points(SE(3), "invariant"), canonical=True)(flat).gap > 1e-3).all())
    assert bool((PCAFrame(points(E(3), "points"), canonical=True)(flat).gap == 0).all())


def test_pseudovectors_cannot_be_oriented_under_reflections() -> None:
    symmetry = Symmetry(O(3), input="vectors + pseudovectors", output="invariant")
    with pytest.raises(ActionError, match="pseudovectors do not follow reflections; use how='frames'"):
        PCAFrame(symmetry, canonical=True)


# --- degenerate ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", [O(3), SE(3), Similarity(3)], ids=str)
def test_coincident_points_have_no_spectrum(group: Group, dtype: torch.dtype) -> None:
    point = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    x = torch.zeros(4, 7, 3, dtype=dtype) if group == O(3) else point.expand(4, 7, 3) * 30
    frames = PCAFrame(points(group))(x)
    assert bool((spectrum(frames) == 0).all())
    assert bool((frames.gap == 0).all())
    assert bool(torch.isfinite(frames.elements).all())
    assert bool(group.contains(frames.elements).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collinear_points_are_determined_for_vectors_but_not_for_matrices(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    along = torch.randn(5, 6, 1, generator=generator, dtype=torch.float64)
    direction = torch.randn(5, 1, 3, generator=generator, dtype=torch.float64)
    x = (along * direction + direction.flip(-1)).to(dtype)
    assert bool((PCAFrame(points(SE(3), "points"))(x).gap > 0.9).all())
    assert bool((PCAFrame(points(SE(3), "spd"))(x).gap < 1e-10).all())


def test_equal_eigenvalues_have_no_gap() -> None:
    cube = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    assert PCAFrame(points(SE(3)))(cube[None]).gap.item() < 1e-12


# --- sampling --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [E(3), SO(4)], ids=str)
def test_samples_are_different_elements_of_the_frame(group: Group) -> None:
    frame, x = PCAFrame(points(group)), cloud(5, 9, group.space_dim)
    drawn = frame.sample(x, 3, torch.Generator().manual_seed(0))
    assert drawn.elements.shape[:2] == (5, 3)
    assert distances(group, drawn.elements, frame(x).elements).amax() < 1e-12
    torch.testing.assert_close(drawn.weights, torch.full((5, 3), 1 / 3, dtype=torch.float64))
    pairs = (drawn.elements[:, :, None] - drawn.elements[:, None]).flatten(3).norm(dim=-1)
    assert (pairs + 10 * torch.eye(3)).min() > 0.5


def test_every_element_is_drawn_equally_often() -> None:
    frame, x = PCAFrame(points(SO(3))), cloud(1, 9, 3).expand(4000, -1, -1)
    drawn = frame.sample(x, 1, torch.Generator().manual_seed(0)).elements[:, 0]
    match = (drawn[:, None] - frame(x[:1]).elements).flatten(2).norm(dim=-1) < 1e-9
    counts = match.sum(0).double()
    # Multinomial: standard deviation sqrt(n p (1 - p)) = 27.
    assert counts.sum() == 4000
    assert (counts - 1000).abs().max() < 4 * 27.4


@pytest.mark.parametrize("group", [SO(14), O(14)], ids=str)
def test_high_dimensions_are_sampled(group: Group) -> None:
    frame, x = PCAFrame(points(group)), cloud(2, 30, 14)
    with pytest.raises(OrbitError, match="pass samples=k"):
        frame(x)
    drawn = frame.sample(x, 5, torch.Generator().manual_seed(0))
    assert bool(group.contains(drawn.elements).all())
    whole = frame.sample(x, 5, torch.Generator().manual_seed(0), whole=True)
    alone = frame.sample(x[1:], 5, torch.Generator().manual_seed(0), whole=True)
    torch.testing.assert_close(whole.elements[1:], alone.elements)


# --- which groups ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [SL(3), Cyclic(4), Symmetric(3)], ids=str)
def test_groups_without_principal_axes(group: Group) -> None:
    action = "permuted" if isinstance(group, Symmetric) else "points"
    with pytest.raises(GroupError, match="no PCA frame"):
        PCAFrame(Symmetry(group, input=action, output="invariant"))


def test_inputs_without_geometry() -> None:
    with pytest.raises(ActionError, match="no geometric parts"):
        PCAFrame(Symmetry(SO(3), input="spd", output="invariant"))


def test_vectors_have_no_origin() -> None:
    frame = PCAFrame(Symmetry(SE(3), input="vectors", output="invariant"))
    with pytest.raises(GroupError, match="only vectors"):
        frame(cloud(2, 4, 3))


# --- points ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [SO(2), SE(2), SO(3), SE(3), SE(4)], ids=str)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_points_frames_are_equivariant(group: Group, seed: int) -> None:
    n = group.space_dim
    symmetry = points(group)
    frame = PointsFrame(tuple(range(n))).on(symmetry)
    x = cloud(4, n + 2, n, seed)
    g = group.sample(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    frames = frame(x)
    moved = frame(symmetry.input.act(g, x)).elements
    tolerance = 1e-11 / frames.gap.min().clamp(min=1e-6)
    composed = group.compose(g[:, None], frames.elements)
    torch.testing.assert_close(moved, composed, rtol=0, atol=float(tolerance))
    assert bool(group.contains(frames.elements).all())


def test_points_frames_are_gram_schmidt() -> None:
    x = cloud(5, 6, 3)
    elements = PointsFrame((2, 0, 5)).on(points(SE(3)))(x).elements[:, 0].numpy()
    for sample, element in zip(x.numpy(), elements, strict=True):
        q, r = np.linalg.qr(np.stack([sample[0] - sample[2], sample[5] - sample[2]], 1))
        q = q * np.sign(np.diag(r))
        expected = np.column_stack([q, np.cross(q[:, 0], q[:, 1])])
        np.testing.assert_allclose(element[:3, :3], expected, atol=1e-11)
        np.testing.assert_allclose(element[:3, 3], sample[2])


def test_points_on_a_line_or_equal_are_reported() -> None:
    line = torch.tensor([[[0.0, 0, 0], [1, 1, 0], [3, 3, 0]], [[1, 2, 3]] * 3], dtype=torch.float64)
    frames = PointsFrame((0, 1, 2)).on(points(SE(3)))(line)
    assert bool((frames.gap < 1e-12).all())
    assert (spectrum(frames)[0] > 0).any()
    assert bool((spectrum(frames)[1] == 0).all())
    assert bool(SE(3).contains(frames.elements).all())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PointsFrame((0, 1)).on(points(SE(3))), ShapeError, "needs 3 different points"),
        (lambda: PointsFrame((0, 1, 1)).on(points(SE(3))), ShapeError, "needs 3 different points"),
        (lambda: PointsFrame((0, 1, 2)).on(points(E(3))), GroupError, r"SO\(n\) and SE\(n\), not of E\(3\)"),
        (lambda: PointsFrame((0, 1, 9)).on(points(SE(3)))(cloud(1, 4, 3)), ShapeError, "9 lies outside of the 4"),
        (lambda: PointsFrame((0, 1, 2), part=1).on(points(SE(3)))(cloud(1, 4, 3)), ShapeError, "part = 1"),
        (lambda: PointsFrame((0, 1, 2))(cloud(1, 4, 3)), GroupError, "knows no group"),
        (
            lambda: PointsFrame((0, 1, 2)).on(Symmetry(SE(3), input="vectors", output="invariant"))(cloud(1, 4, 3)),
            GroupError,
            "holds vectors",
        ),
    ],
)
def test_points_frames_name_what_is_wrong(call, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


# --- orbits ----------------------------------------------------------------------------------------------------------
def test_an_orbit_lists_a_finite_group() -> None:
    frames = OrbitFrame(Octahedral())(cloud(3, 4, 3))
    assert isinstance(frames, FrameSet)
    assert frames.elements.shape[:2] == (1, Octahedral().order)
    assert frames.gap.shape == (3,)


def test_orbits_of_compact_groups_are_fixed_samples() -> None:
    first, second = OrbitFrame(SO(4), 6, seed=3), OrbitFrame(SO(4), 6, seed=3)
    torch.testing.assert_close(first.elements, second.elements, rtol=0, atol=0)
    assert not first.is_whole
    assert bool(SO(4).contains(first.elements).all())
    angles = torch.atan2(*OrbitFrame(SO(2), 8).elements[:, :, 0].unbind(-1)[::-1]).sort().values
    torch.testing.assert_close(angles.diff(), torch.full((7,), math.pi / 4, dtype=torch.float64))


def test_orbits_that_cannot_be_averaged() -> None:
    with pytest.raises(OrbitError, match="pass samples=k"):
        OrbitFrame(SO(3))
    with pytest.raises(GroupError, match=r"SE\(3\) is not compact.*use how='frames'"):
        OrbitFrame(SE(3), 8)
    with pytest.raises(OrbitError, match="more than the"):
        OrbitFrame(Symmetric(12))


def test_library_frames_follow_the_protocol() -> None:
    for frame in (PCAFrame(points(SE(3))), PointsFrame((0, 1, 2)), OrbitFrame(Cyclic(4))):
        assert isinstance(frame, Frame)
