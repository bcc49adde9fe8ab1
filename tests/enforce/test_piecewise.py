"""Symmetry by parts: the action against loops, frames against numpy, the lemma of refinement, degenerate parts, bad input."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from erlangen.actions import Points, Vectors
from erlangen.enforce import Piecewise, PiecewiseFrameAverage, act_piecewise, part_frames, symmetrize
from erlangen.errors import (
    ActionError,
    DegenerateFrameError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    GroupError,
    ModelError,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SE, SO, DirectProduct, E, Group, O
from erlangen.measure import equivariance_error
from erlangen.nn import segment_mean
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

GROUPS: list[Group] = [E(3), SE(3), O(3), SO(3), E(2), SE(2)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Block(nn.Module):
    """A smooth network that sees each row and the mean of its set."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows = nn.Sequential(nn.Linear(size, 12), nn.Tanh())
        self.head = nn.Sequential(nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, out))

    def forward(self, rows: Tensor, index: Tensor, segments: int) -> Tensor:
        local = self.rows(rows)
        return self.head(torch.cat([local, segment_mean(local, index, segments)[index]], -1))


def layer(group: Group, parts: int, extra: int = 0, **options) -> PiecewiseFrameAverage:
    """Four invariants and two vectors."""
    d = group.space_dim
    return PiecewiseFrameAverage(Block(d + extra, 4 + 2 * d), group, parts, features=4, vectors=2, **options).eval()


def cloud(batch: int = 3, parts: int = 4, d: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Parts of ten points with clear axes and third moments, each somewhere else."""
    x = torch.randn(batch, 10 * parts, d, generator=generator(), dtype=torch.float64)
    x = (x + 0.4 * x.square()) * torch.tensor([1.0, 2.0, 4.0][:d], dtype=torch.float64)
    labels = torch.arange(10 * parts).remainder(parts).repeat(batch, 1)
    return {"pos": (x + labels[..., None]).to(dtype), "labels": labels}


# --- the action ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [E(3), SO(3)], ids=str)
def test_action_is_that_of_every_part(group: Group) -> None:
    x = cloud()
    g = group.sample((3, 4), generator=generator(), dtype=torch.float64)
    moved = act_piecewise(group, g, x["pos"], x["labels"])
    several = torch.randn(3, 40, 2, 3, generator=generator(), dtype=torch.float64)
    turned = act_piecewise(group, g, several, x["labels"], vectors=True)
    for b, i in itertools.product(range(3), range(40)):
        own = g[b, x["labels"][b, i]]
        torch.testing.assert_close(moved[b, i], Points().on(group).act(own, x["pos"][b, i][None])[0])
        torch.testing.assert_close(turned[b, i], Vectors().on(group).act(own, several[b, i]))


def test_action_of_a_product_broadcasts() -> None:
    group = DirectProduct(*[E(3)] * 4)
    action = Piecewise().on(group)
    x = cloud() | {"vectors": torch.randn(3, 40, 2, 3, dtype=torch.float64), "features": torch.randn(3, 40, 5)}
    g = group.sample(7, generator=generator(), dtype=torch.float64)
    orbit = action.act(g[:, None], {key: value[None] for key, value in x.items()})
    shapes = {key: tuple(value.shape) for key, value in orbit.items()}
    assert shapes == {
        "pos": (7, 3, 40, 3), "labels": (7, 3, 40), "vectors": (7, 3, 40, 2, 3), "features": (7, 3, 40, 5),
    }  # fmt: skip
    for k in range(7):
        one = action.act(g[k], x)
        for key in ("pos", "vectors"):
            torch.testing.assert_close(orbit[key][k], one[key])
    h = group.sample(7, generator=generator(1), dtype=torch.float64)
    both = action.act(group.compose(g[0], h[0]), x)["pos"]
    torch.testing.assert_close(both, action.act(g[0], action.act(h[0], x))["pos"])
    single = Piecewise().on(E(3)).act(group.split(g[0])[0], x | {"labels": torch.zeros_like(x["labels"])})
    torch.testing.assert_close(single["pos"], Points().on(E(3)).act(group.split(g[0])[0], x["pos"]))


# --- frames ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("group", [E(3), SE(3), O(3), SO(2)], ids=str)
def test_frames_by_numpy(group: Group, weighted: bool) -> None:
    x = cloud(d=group.space_dim)
    weights = torch.rand(3, 40, generator=generator(1), dtype=torch.float64) if weighted else None
    found = part_frames(x["pos"], x["labels"], 5, group, weights=weights)
    assert found.axes.shape == (3, 5, group.space_dim, group.space_dim)
    assert bool((found.counts[:, 4] == 0).all())
    assert bool(found.gap[:, 4].isinf().all())
    for b, j in itertools.product(range(3), range(4)):
        here = (x["labels"][b] == j).numpy()
        rows = x["pos"][b].numpy()[here]
        w = np.ones(len(rows)) if weights is None else weights[b].numpy()[here]
        centre = np.average(rows, axis=0, weights=w) * isinstance(group, (E, SE))
        values, vectors = np.linalg.eigh((rows - centre).T @ np.diag(w) @ (rows - centre))
        np.testing.assert_allclose(found.spectrum[b, j].numpy(), values, rtol=1e-10)
        np.testing.assert_allclose(np.abs((vectors * found.axes[b, j].numpy()).sum(0)), 1, rtol=1e-10)
        np.testing.assert_allclose(found.local[b].numpy()[here], (rows - centre) @ found.axes[b, j].numpy(), atol=1e-10)
        np.testing.assert_allclose(float(found.gap[b, j]), np.diff(values).min() / values[-1], rtol=1e-8)
        if isinstance(group, (SE, SO)):
            assert abs(float(torch.linalg.det(found.axes[b, j])) - 1) < 1e-12


# --- exactness -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_given_partition(group: Group, dtype: torch.dtype, tol: float) -> None:
    x = cloud(d=group.space_dim, dtype=dtype) | {"features": torch.randn(3, 40, 2, dtype=dtype)}
    model = layer(group, 4, 2).to(dtype)
    assert float(equivariance_error(model, None, x, elements=30, reduce="max")) < tol


def test_refinement_lemma_and_its_control() -> None:
    x = cloud(6, 6)
    model = layer(E(3), 6).double().requires_grad_(False)
    out = model(x)
    g = E(3).sample((6, 3), generator=generator(), dtype=torch.float64)
    coarse = x["labels"] % 3
    crossing = (torch.arange(60) // 20).repeat(6, 1)
    errors = []
    for parts in (coarse, crossing):
        moved = model({"pos": act_piecewise(E(3), g, x["pos"], parts), "labels": x["labels"]})
        expected = act_piecewise(E(3), g, out["vectors"], parts, vectors=True)
        errors.append(
            float(((moved["vectors"] - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())
        )
    assert errors[0] < 1e-12
    assert errors[1] > 1e-2


class Whole(nn.Module):
    def __init__(self, block: nn.Module, first: int, last: int) -> None:
        super().__init__()
        self.block, self.first, self.last = block, first, last

    def forward(self, x: Tensor) -> Tensor:
        index = torch.arange(len(x)).repeat_interleave(x.shape[1])
        return self.block(x.flatten(0, 1), index, len(x))[:, self.first : self.last].unflatten(0, x.shape[:2])


@pytest.mark.parametrize("group", [E(3), SE(3), O(3)], ids=str)
def test_one_part_is_frame_averaging(group: Group) -> None:
    pos = cloud()["pos"]
    model = layer(group, 1).double()
    out = model({"pos": pos, "labels": torch.zeros(3, 40, dtype=torch.long)})
    invariant = symmetrize(Whole(model.block, 0, 4), Symmetry(group, input="points", output="invariant"))
    vectors = symmetrize(Whole(model.block, 7, 10), Symmetry(group, input="points", output="vectors"))
    torch.testing.assert_close(out["features"], invariant(pos), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(out["vectors"][:, :, 1], vectors(pos), rtol=1e-11, atol=1e-12)


def test_order_of_points_and_names_of_parts() -> None:
    x = cloud()
    model = layer(E(3), 6).double()  # two parts are empty
    out = model(x)
    order = torch.randperm(40, generator=generator())
    permuted = model({key: value[:, order] for key, value in x.items()})
    renamed = model(x | {"labels": 5 - x["labels"]})
    for key in ("features", "vectors"):
        torch.testing.assert_close(permuted[key], out[key][:, order], rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(renamed[key], out[key], rtol=1e-11, atol=1e-13)


def test_far_from_the_origin() -> None:
    x = cloud(dtype=torch.float64)
    model = layer(E(3), 4)
    far = {"pos": (x["pos"] + 1000).float(), "labels": x["labels"]}
    near = model({"pos": (far["pos"].double() - 1000).float(), "labels": x["labels"]})
    torch.testing.assert_close(model(far)["vectors"], near["vectors"], rtol=0, atol=1e-3)


# --- degenerate parts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("group", [E(3), SE(3)], ids=str)
def test_small_and_straight_parts_stay_exact(group: Group, size: int) -> None:
    """Lone points, pairs, and collinear triples: vectors vanish across the line, and nothing is lost in exactness."""
    along = torch.randn(4, 5, 3, generator=generator(), dtype=torch.float64)
    steps = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)[:size]
    pos = (
        along[:, :, None] * steps[:, None] + torch.randn(4, 5, 1, 3, generator=generator(1), dtype=torch.float64)
    ).flatten(1, 2)
    x = {"pos": pos, "labels": torch.arange(5).repeat_interleave(size).repeat(4, 1)}
    model = layer(group, 5, on_degenerate="allow").double()
    out = model(x)
    across = torch.linalg.cross(out["vectors"], along.repeat_interleave(size, 1)[:, :, None].expand_as(out["vectors"]))
    assert float(across.detach().norm(dim=-1).max()) < 1e-12
    if size == 1:
        assert float(out["vectors"].detach().abs().max()) < 1e-15
    assert all(bool(value.isfinite().all()) for value in out.values())
    g = group.sample((4, 5), generator=generator(), dtype=torch.float64)
    moved = model({"pos": act_piecewise(group, g, pos, x["labels"]), "labels": x["labels"]})
    torch.testing.assert_close(moved["features"], out["features"], rtol=0, atol=1e-12)
    expected = act_piecewise(group, g, out["vectors"], x["labels"], vectors=True)
    torch.testing.assert_close(moved["vectors"], expected, rtol=0, atol=1e-12)


def test_undetermined_parts_are_named() -> None:
    x = cloud()
    x["pos"][1, x["labels"][1] == 2] = torch.cat(
        [torch.eye(3), -torch.eye(3), torch.eye(3), torch.zeros(1, 3)]
    ).double()
    with pytest.warns(DegenerateFrameWarning, match=r"part 2 of sample 1 \(1 parts of the batch\)"):
        layer(E(3), 4).double()(x)
    with pytest.raises(DegenerateFrameError, match="relative gap"):
        layer(E(3), 4, on_degenerate="error").double()(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(E(3), 4, on_degenerate="allow").double()(x)
    x["pos"][:] = 1.0
    with pytest.raises(DegenerateFrameError, match="part 0 of sample 0"):
        layer(E(3), 4, on_degenerate="error").double()(x)


# --- training --------------------------------------------------------------------------------------------------------
def test_sampled_signs_are_unbiased() -> None:
    x = cloud(1, 2)
    model = layer(SE(3), 2, samples=2, seed=3).double()
    whole = model(x)
    model.train()
    with torch.no_grad():
        runs = [model(x) for _ in range(400)]
    for key in ("features", "vectors"):
        drawn = torch.stack([run[key] for run in runs])
        error = (drawn.mean(0) - whole[key].detach()).abs() / (drawn.std(0) / 400**0.5).clamp(min=1e-12)
        assert float(error.max()) < 5
        assert float(drawn.std(0).max()) > 1e-3


@pytest.mark.parametrize("options", [{}, {"differentiable": True}])
def test_gradients(options: dict[str, bool]) -> None:
    x = cloud(1, 2)
    model = layer(E(3), 2, **options).double()

    def run(pos: Tensor) -> tuple[Tensor, Tensor]:
        out = model({"pos": pos, "labels": x["labels"]})
        return out["features"], out["vectors"]

    assert torch.autograd.gradcheck(run, [x["pos"].requires_grad_()])


def test_contract() -> None:
    x = cloud(dtype=torch.float32)
    # The partition is checked by its values, which vmap hides; shapes of features depend on labels in no way.
    check_layer(layer(E(3), 4), x, skip=["vmap"])


# --- bad input -------------------------------------------------------------------------------------------------------
X = cloud()
BAD = [
    (lambda: layer(E(3), 3).double()(X), ShapeError, r"labels is 3 at \(0, 3\); labels go from 0 to 2"),
    (
        lambda: layer(E(3), 4).double()(X | {"labels": X["labels"][:, :7]}),
        ShapeError,
        r"one label per point is \(3, 40\)",
    ),
    (lambda: layer(E(3), 4).double()(X | {"labels": X["labels"].double()}), DtypeError, "harden"),
    (lambda: layer(E(3), 4).double()(X | {"pos": X["pos"] * torch.nan}), NotFiniteError, "pos has 360 values"),
    (lambda: layer(E(3), 4).double()(X | {"pos": X["pos"][..., :2]}), ShapeError, r"E\(3\) needs"),
    (lambda: layer(E(3), 4).double()(X | {"weights": -X["pos"][..., 0].abs()}), ShapeError, "none negative"),
    (lambda: layer(DirectProduct(E(3), E(3)), 4), GroupError, "no frames by parts"),
    (lambda: part_frames(X["pos"], X["labels"], 4, DirectProduct(E(3), E(3))), GroupError, "no frames by parts"),
    (lambda: layer(E(3), 0), ShapeError, "parts = 0"),
    (lambda: layer(E(3), 4, samples=0), ShapeError, "samples = 0"),
    (lambda: layer(E(3), 4, on_degenerate="pass"), UnknownNameError, "'warn', 'error' or 'allow'"),
    (
        lambda: PiecewiseFrameAverage(Block(3, 4), E(3), 4, features=4, vectors=1).double()(X),
        ModelError,
        r"vectors = 1 need \[960, 7\]",
    ),
    (lambda: Piecewise().on(DirectProduct(E(3), SE(3))), ActionError, "does not act by parts"),
    (lambda: Piecewise().on(E(3)).act(E(3).identity(), X["pos"]), ActionError, "a dict with 'labels'"),
    (lambda: act_piecewise(E(3), E(3).identity(), X["pos"], X["labels"]), ShapeError, "for each part"),
    (lambda: act_piecewise(E(3), E(3).sample(2), X["pos"], X["labels"]), ShapeError, "labels go from 0 to 1"),
    (lambda: act_piecewise(E(3), E(3).sample(4), X["pos"], X["labels"][:, :5]), ShapeError, "one label for each row"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=itertools.count())
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
