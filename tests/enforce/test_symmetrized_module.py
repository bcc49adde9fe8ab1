"""`symmetrize` as a module: gradients, degenerate inputs, saving, exporting, and errors for bad input."""

# pyright: reportArgumentType=false

import copy
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from erlangen.enforce import FrameSet, PCAFrame, PointsFrame, Symmetrized, symmetrize
from erlangen.errors import (
    DegenerateFrameError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    GroupError,
    ModelError,
    NotFiniteError,
    OrbitError,
    ShapeError,
    SymmetryError,
    UnknownNameError,
)
from erlangen.groups import (
    CSO,
    SE,
    SL,
    SO,
    Cyclic,
    E,
    Group,
    O,
    Scaling,
    Similarity,
    Translation,
)
from erlangen.symmetry import Symmetry
from helpers.point_models import TOLERANCE, Matrix, PointNet, cloud, model_for


# --- gradients -------------------------------------------------------------------------------------------------------
def test_gradcheck_with_a_frozen_frame_and_equality_with_the_detached_one() -> None:
    symmetry = Symmetry(O(3), input="points", output="vectors")
    net, x = PointNet(3, 3, pool=False).double(), cloud(2, 5, 3).requires_grad_()
    frozen = PCAFrame(symmetry)(x.detach())
    fixed = symmetrize(net, symmetry, frame=lambda _: frozen)
    torch.autograd.gradcheck(fixed, (x,))
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    (a,) = torch.autograd.grad((fixed(x) * weight).sum(), x)
    (b,) = torch.autograd.grad((symmetrize(net, symmetry, differentiable=False)(x) * weight).sum(), x)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("how", ["frames", "canonical"])
def test_gradcheck_through_the_frame(how: Any) -> None:
    symmetry = Symmetry(SE(3), input="points", output="points")
    model = symmetrize(PointNet(3, 3, pool=False).double(), symmetry, how, differentiable=True)
    torch.autograd.gradcheck(model, (cloud(2, 5, 3).requires_grad_(),))


def test_gradcheck_through_points_centroid_and_size() -> None:
    x = cloud(2, 4, 3).requires_grad_()
    points = symmetrize(
        PointNet(3, 3, False).double(),
        Symmetry(SE(3), input="points", output="points"),
        frame=PointsFrame((0, 1, 2)),
        differentiable=True,
    )
    torch.autograd.gradcheck(points, (x,))
    for group in (Translation(3), Scaling(3)):
        model = symmetrize(PointNet(3, 3, False).double(), Symmetry(group, input="points", output="points"))
        torch.autograd.gradcheck(model, (x,))


class Work(nn.Module):
    """A smooth energy that depends on coordinates, order and position: no symmetry hides an error."""

    def __init__(self, atoms: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * atoms, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def slopes(energy: Any, x: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """Central differences of a scalar per sample."""
    found = torch.zeros_like(x)
    with torch.no_grad():
        for index in range(x[0].numel()):
            moved = torch.zeros_like(x[0]).flatten()
            moved[index] = step
            change = energy(x + moved.view_as(x[0])) - energy(x - moved.view_as(x[0]))
            found.flatten(1)[:, index] = change.flatten(1).sum(1) / (2 * step)
    return found


MOVING = [SO(3), SE(3), O(3), E(3), CSO(3), Similarity(3), Translation(3), Scaling(3)]


@pytest.mark.parametrize(
    ("group", "how"),
    [*itertools.product(MOVING, ["frames", "canonical"]), (SO(3), "points"), (SE(3), "points")],
    ids=str,
)
def test_forces_are_right_by_default(group: Group, how: Any) -> None:
    """Against finite differences, for every frame that reads the input; without asking for anything."""
    frame = PointsFrame((0, 1, 2)) if how == "points" else None
    options: dict[str, Any] = {"frame": frame} if frame else {"how": how}
    model = symmetrize(Work(5), Symmetry(group, input="points", output="invariant"), **options)
    x = cloud(3, 5, 3)
    (force,) = torch.autograd.grad(model(x.requires_grad_()).sum(), x)
    expected = slopes(model, x.detach())
    assert (force - expected).abs().max() < 1e-7 * expected.abs().max()
    torch.testing.assert_close(torch.func.grad(lambda z: model(z).sum())(x.detach()), force, rtol=1e-9, atol=1e-12)
    tangent = torch.randn_like(x)
    slope = torch.func.jvp(model, (x.detach(),), (tangent,))[1]
    torch.testing.assert_close(slope.flatten(), (force * tangent).sum((1, 2)), rtol=1e-9, atol=1e-12)
    torch.autograd.gradgradcheck(model, (x[:1].detach().requires_grad_(),), atol=1e-4)
    with torch.no_grad():
        assert not model(x).requires_grad


@pytest.mark.parametrize("how", ["frames", "canonical"])
@pytest.mark.parametrize("group", [E(3), SO(3), Similarity(3)], ids=str)
def test_compiled_forces_and_their_derivatives(group: Group, how: Any) -> None:
    """A compiler cannot follow the safe eigenvectors; what it follows has the same first and second derivatives."""
    model = symmetrize(Work(4), Symmetry(group, input="points", output="invariant"), how=how)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x, weight = cloud(2, 4, 3).requires_grad_(), cloud(2, 4, 3)

    def derivatives(call: Any) -> tuple[torch.Tensor, torch.Tensor]:
        (force,) = torch.autograd.grad(call(x).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((force * weight).sum(), x)
        return force.detach(), second

    for ours, plain in zip(derivatives(compiled), derivatives(model), strict=True):
        assert (ours - plain).abs().max() < 1e-9 * plain.abs().max()
    torch.compiler.reset()


@pytest.mark.parametrize("name", ["planar", "linear", "padded"])
def test_forces_of_planar_linear_and_padded_molecules(name: str) -> None:
    x = cloud(2, 4, 3) * torch.tensor(
        [1.0, 0.0 if name in ("planar", "linear") else 1.0, 0.0 if name == "linear" else 1.0]
    )
    x = x @ SO(3).sample(generator=torch.Generator().manual_seed(5), dtype=torch.float64).mT
    mask = torch.tensor([[True] * 4, [True, True, True, name != "padded"]])

    def energy(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return net(x * mask[..., None])

    net = Work(4)
    model = symmetrize(energy, Symmetry(E(3), input="points", output="invariant"))

    def masked(z: torch.Tensor) -> torch.Tensor:
        return model(z, mask=mask)

    (force,) = torch.autograd.grad(masked(x.requires_grad_()).sum(), x)
    with warnings.catch_warnings():  # a step to the side turns a line into a plane
        warnings.simplefilter("ignore", DegenerateFrameWarning)
        expected = slopes(masked, x.detach(), 1e-4)
    assert (force - expected).abs().max() < 1e-5 * expected.abs().max()
    assert force.sum(1).abs().max() < 1e-12
    if name == "padded":
        assert bool((force[1, 3] == 0).all())


def test_earlier_layers_learn_through_the_frame() -> None:
    """A layer before the wrapper gets the derivative of the loss, not of the loss in a frozen frame."""
    model = nn.Sequential(
        nn.Linear(3, 3).double(), symmetrize(Work(5), Symmetry(SO(3), input="points", output="invariant"))
    )
    x, weight = cloud(2, 5, 3), model[0].weight
    (slope,) = torch.autograd.grad(model(x).sum(), weight)
    with torch.no_grad():
        weight[0, 1] += 1e-5
        up = model(x).sum()
        weight[0, 1] -= 2e-5
        down = model(x).sum()
    assert float(slope[0, 1]) == pytest.approx(float(up - down) / 2e-5, rel=1e-6)


def test_forces_of_a_translation_invariant_energy_sum_to_zero() -> None:
    model = symmetrize(PointNet(3, 1).double(), Symmetry(SE(3), input="points", output="invariant"))
    x = cloud(3, 6, 3).requires_grad_()
    (force,) = torch.autograd.grad(model(x).sum(), x)
    assert force.abs().max() > 1e-3
    torch.testing.assert_close(force.sum(1), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_training_reaches_every_parameter() -> None:
    model = symmetrize(PointNet(3, 1), Symmetry(SE(3), input="points", output="invariant"))
    x = cloud(64, 5, 3, dtype=torch.float32)
    target = torch.linalg.vector_norm(x[:, 0] - x[:, 1], dim=-1, keepdim=True)
    target = (target - target.mean()) / target.std()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


# --- degenerate inputs -----------------------------------------------------------------------------------------------
CUBE = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))


def se3(output: str = "invariant", **options: Any) -> Symmetrized:
    torch.manual_seed(0)
    return symmetrize(model_for(output, 3), Symmetry(SE(3), input="points", output=output), **options)


def test_equal_eigenvalues_warn_with_index_values_and_remedy() -> None:
    x = torch.cat([cloud(2, 8, 3, dtype=torch.float32), CUBE[None]])
    with pytest.warns(
        DegenerateFrameWarning, match=r"sample 2 of x \(1 of 3 samples\).*8\.0, 8\.0, 8\.0.*below 0.00035"
    ):
        out = se3()(x)
    assert bool(torch.isfinite(out).all())
    with pytest.raises(DegenerateFrameError, match=r"sample 2 .*break the tie"):
        se3(on_degenerate="error")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(torch.isfinite(se3(on_degenerate="allow")(x)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("policy", ["warn", "error"])
def test_coincident_points_have_no_frame(policy: Any, count: int, dtype: torch.dtype) -> None:
    x = cloud(3, count, 3, dtype=dtype) if count > 1 else cloud(3, 1, 3, dtype=dtype)
    x[1] = x[1, :1]
    model = se3(on_degenerate=policy).to(dtype)
    with pytest.raises(
        DegenerateFrameError, match=f"sample {1 if count > 1 else 0} of x has no frame: zero covariance"
    ):
        model(x)


@pytest.mark.parametrize("group", [SE(3), E(3), Similarity(3)], ids=str)
@pytest.mark.parametrize("output", ["invariant", "points", "vectors"])
def test_allowed_coincident_points_are_exact(output: str, group: Group) -> None:
    symmetry = Symmetry(group, input="points", output=output)
    model = symmetrize(model_for(output, 3).double(), symmetry, on_degenerate="allow")
    x = cloud(3, 1, 3).expand(-1, 4, -1)
    g = group.sample(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if group == Similarity(3):
        g = Similarity(3).join(SO(3).sample(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64))
    moved, expected = model(symmetry.input.act(g, x)), symmetry.output.act(g, model(x))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", [SE(3), E(3), SE(4)], ids=str)
@pytest.mark.parametrize("output", ["invariant", "points", "vectors"])
def test_collinear_points_are_exact_without_a_warning(output: str, group: Group, dtype: torch.dtype) -> None:
    n = group.space_dim
    generator = torch.Generator().manual_seed(2)
    along = torch.randn(5, 6, 1, generator=generator, dtype=torch.float64)
    direction = torch.randn(5, 1, n, generator=generator, dtype=torch.float64)
    model = symmetrize(model_for(output, n).to(dtype), Symmetry(group, input="points", output=output))
    g = group.sample(5, generator=generator, dtype=torch.float64)
    x = along * direction
    moved = model.symmetry.input.act(g, x).to(dtype)
    expected = model.symmetry.output.act(g.to(dtype), model(x.to(dtype)))
    assert (model(moved) - expected).norm() < TOLERANCE[dtype] * expected.norm()


def test_collinear_points_warn_where_they_are_not_exact() -> None:
    x = torch.linspace(0, 1, 5)[None, :, None] * torch.tensor([1.0, 2.0, 3.0])
    with pytest.warns(DegenerateFrameWarning, match="sample 0"):
        se3("spd")(x)
    with pytest.warns(DegenerateFrameWarning, match="sample 0"):
        se3("points", how="canonical")(x)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    x = cloud(4, 5, 3)
    x[2, 3, 1] = value
    with pytest.raises(NotFiniteError, match=r"sample 2 .*index \(2, 3, 1\)"):
        se3().double()(x)


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1e-8])] * 3), min_size=1, max_size=5),
    how=st.sampled_from(["frames", "canonical"]),
)
def test_never_nan(rows: list[tuple[float, float, float]], how: Any) -> None:
    x = torch.tensor([rows]).requires_grad_()
    for options in ({}, {"differentiable": True}):
        out = se3("points", how=how, on_degenerate="allow", **options)(x)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert bool(torch.isfinite(out).all())
        assert bool(torch.isfinite(grad).all())


def test_batch_norm_in_training_warns() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(15, 4), nn.BatchNorm1d(4))
    model = symmetrize(net, Symmetry(SE(3), input="points", output="invariant"))
    with pytest.warns(ErlangenWarning, match="BatchNorm in train mode"):
        model.train()(cloud(4, 5, 3, dtype=torch.float32))
    model.eval()(cloud(4, 5, 3, dtype=torch.float32))


# --- an ordinary module ----------------------------------------------------------------------------------------------
def test_state_is_the_models_and_survives_safetensors(tmp_path: Any) -> None:
    model, other = se3(), symmetrize(PointNet(3, 5), Symmetry(SE(3), input="points", output="invariant"))
    assert set(model.state_dict()) == {f"model.{key}" for key in model.model.state_dict()}
    x = cloud(3, 5, 3, dtype=torch.float32)
    assert (model(x) - other(x)).abs().max() > 1e-3
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)


def test_orbits_keep_no_state() -> None:
    model = symmetrize(PointNet(3, 5), Symmetry(SO(3), input="points", output="invariant"), "orbit", samples=5)
    assert set(model.state_dict()) == {f"model.{key}" for key in model.model.state_dict()}


def test_deepcopy_and_casts() -> None:
    symmetry = Symmetry(SE(3), input="points", output="invariant")
    model = symmetrize(PointNet(3, 5), symmetry, samples=3)
    x = cloud(3, 5, 3, dtype=torch.float32)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.train()(x), model.train()(x), rtol=0, atol=0)
    assert twin.eval().to(torch.float64)(x.double()).dtype == torch.float64
    g = SE(3).sample(3, dtype=torch.float64)
    moved = twin(symmetry.input.act(g, x.double()))
    torch.testing.assert_close(moved, twin(x.double()), rtol=1e-12, atol=1e-12)


def test_autocast_does_not_reach_the_frames() -> None:
    seen: list[Tensor] = []
    model = symmetrize(lambda x: (seen.append(x), x.sum(1))[1], Symmetry(SE(3), input="points", output="invariant"))
    x = cloud(3, 5, 3, dtype=torch.float32)
    model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
    assert seen[1].dtype == torch.float32
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)


@pytest.mark.parametrize("how", ["frames", "points", "orbit"])
def test_compiles_and_exports(how: Any) -> None:
    symmetry = Symmetry(SE(3) if how != "orbit" else Cyclic(4), input="points", output="points")
    n = symmetry.group.space_dim
    frame = PointsFrame((0, 1, 2)) if how == "points" else None
    model = symmetrize(PointNet(n, n, False), symmetry, how, frame=frame)
    x = cloud(3, 6, n, dtype=torch.float32)
    expected = model(x)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


def test_representation_names_the_symmetry() -> None:
    assert "SE(3): points -> invariant" in repr(se3())
    assert "certificate='exact'" in repr(se3())


def test_an_empty_batch_gives_an_empty_batch() -> None:
    assert se3()(torch.zeros(0, 4, 3)).shape == (0, 5)


# --- bad input -------------------------------------------------------------------------------------------------------
SYM = Symmetry(SE(3), input="points", output="invariant")
NET = PointNet(3, 2).double()
X = cloud(2, 4, 3)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: symmetrize(NET, "SO(3)"), SymmetryError, "symmetry is a str; give er.Symmetry"),
        (lambda: symmetrize(NET, SYM, "magic"), UnknownNameError, "how = 'magic': choose 'frames'"),
        (lambda: symmetrize(NET, SYM, on_degenerate="x"), UnknownNameError, "on_degenerate = 'x'"),
        (lambda: symmetrize(NET, SYM, samples=0), OrbitError, "samples = 0: give a positive integer"),
        (lambda: symmetrize(NET, SYM, chunk=1.5), OrbitError, "chunk = 1.5"),
        (lambda: symmetrize(NET, SYM, "canonical", samples=2), OrbitError, "uses one element"),
        (lambda: symmetrize(NET, SYM, "points"), SymmetryError, r"pass frame=PointsFrame\(\(i, j, k\)\)"),
        (lambda: symmetrize(NET, SYM, "orbit", frame=lambda x: x), SymmetryError, "leave out frame="),
        (lambda: symmetrize(NET, SYM, frame=3), SymmetryError, "frame is a int"),
        (lambda: symmetrize(NET, SYM, frame=lambda x: x)(X), SymmetryError, "frame returned a Tensor"),
        (
            lambda: symmetrize(NET, SYM, frame=lambda x: FrameSet(torch.eye(4), torch.ones(2), torch.ones(2)))(X),
            ShapeError,
            r"frame returned elements.*batch of 2 they must be \[B, K, \*\(4, 4\)\]",
        ),
        (lambda: symmetrize(NET, SYM, "orbit"), GroupError, "not compact"),
        (lambda: symmetrize(NET, Symmetry(SO(3), input="points", output="points"), "orbit"), OrbitError, "samples=k"),
        (lambda: symmetrize(NET, Symmetry(SL(3), input="points", output="points")), GroupError, "no exact method"),
        (lambda: symmetrize(NET, Symmetry(SO(3), input="spd", output="spd")), GroupError, "no exact method"),
        (lambda: symmetrize(nn.Linear, SYM), ModelError, "model is the class Linear; give an instance"),
        (lambda: symmetrize(3, SYM), ModelError, "model is a int"),
        (lambda: symmetrize(NET, SYM)(torch.randn(2, 4, 2)), ShapeError, "2.*SE\\(3\\) acts on 3 coordinates"),
        (lambda: symmetrize(NET, SYM)(torch.ones(2, 4, 3, dtype=torch.int64)), DtypeError, "int64"),
        (lambda: symmetrize(NET, SYM)(torch.zeros(2, 0, 3)), ShapeError, "no points"),
        (lambda: symmetrize(lambda x: x.sum(), SYM)(X), ModelError, r"shape \(\) for a batch of 8"),
        (lambda: symmetrize(lambda x: x.sum((0, 1)), SYM)(X), ModelError, r"shape \(3,\) for a batch of 8"),
        (lambda: symmetrize(lambda x: x.argmax(1), SYM)(X), ModelError, "int64, which cannot be averaged"),
        (lambda: symmetrize(lambda x: "scores", SYM)(X), ModelError, "returned a str"),
        (lambda: symmetrize(NET, SYM)(X, mask=torch.ones(2, 9, dtype=torch.bool)), ShapeError, "mask has shape"),
        (lambda: symmetrize(NET, SYM)(X, mask=torch.ones(4, dtype=torch.bool)), ShapeError, r"must be \[B, N\]"),
        (lambda: symmetrize(NET, SYM)(X, mask=-torch.ones(2, 4)), ShapeError, r"mask is negative at \(0, 0\)"),
        (lambda: symmetrize(Matrix(3), SYM)(X, mask=torch.ones(2, 4)), ModelError, "no argument mask"),
        (
            lambda: symmetrize(NET, Symmetry(SE(3), input=("points", "points"), output="invariant"))((X, X[:1])),
            ShapeError,
            "same leading batch axis",
        ),
        (
            lambda: symmetrize(NET, Symmetry(SE(3), input="points", output={"a": "invariant"}))(X),
            SymmetryError,
            "give both the same keys",
        ),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], kind: type[ErlangenError], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
