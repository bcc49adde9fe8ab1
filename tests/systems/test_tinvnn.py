"""Initial representations: closed forms, symmetric and bad inputs."""

import itertools
import math
import warnings

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from erlangen.enforce import symmetrize
from erlangen.errors import (
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
from erlangen.groups import Cyclic, O
from erlangen.measure import relative_change
from erlangen.nn import Pointer
from erlangen.survey import Run
from erlangen.symmetry import Symmetry
from erlangen.systems.points.tinvnn import (
    EUCLIDEAN,
    InitialRepresentation,
    Invariance,
    SteadyTinvNN,
    TinvNN,
    classical_mds,
)
from erlangen.systems.points.tinvnn import experiment as system
from erlangen.systems.points.tinvnn._steady import near_frames, near_ties
from erlangen.systems.points.tinvnn.experiment import ALL, moved, pairwise
from erlangen.testing import check_layer

TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def close(a: Tensor, b: Tensor | list[float] | float, tol: float) -> None:
    b = torch.as_tensor(b, dtype=torch.float64)
    torch.testing.assert_close(a.double(), b, rtol=tol, atol=tol * float(b.detach().abs().max()))


def net(features: int = 3, outputs: int = 2) -> nn.Module:
    """Not invariant to anything but the order of the points."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(features, 16), nn.Tanh(), nn.Linear(16, outputs)).double()
    return _Pooled(layers)


def clouds(count: int, d: int, seed: int) -> Tensor:
    """Asymmetric clouds ``[count, 20, d]`` with variances one apart."""
    return system.clouds(Run(seed=seed), d=d, count=count)


class _Pooled(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(1)


def layer() -> tuple[nn.Module, Tensor, dict[str, list[str]]]:
    """Frames take a batch, and look at values; the mode that compiles is tested below."""
    model = TinvNN(net().float(), 3, differentiable=True)
    return model, clouds(4, 3, 0)[:, :8].float(), {"skip": ["vmap", "compile"]}


LAYERS = {"TinvNN": layer}


# --- the representation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_keeps_distances_centres_and_ignores_motions(d: int, dtype: torch.dtype, tol: float) -> None:
    generator = torch.Generator().manual_seed(d)
    x = clouds(100, d, d)
    represent = InitialRepresentation(d)
    found = represent(x.to(dtype))
    close(pairwise(found.coordinates), pairwise(x), tol)
    assert float(found.coordinates.double().mean(1).abs().max()) < tol * 10
    back = found.centre[:, None] + found.coordinates.double() @ found.axes.mT * found.scale[:, None, None]
    close(back, x, tol)
    turn = O(d).sample(100, generator=generator, dtype=torch.float64) if d > 1 else -torch.ones(100, 1, 1).double()
    elsewhere = (x @ turn.mT + 5).to(dtype)
    close(represent(elsewhere).coordinates, found.coordinates, 100 * tol)
    order = torch.randperm(x.shape[1], generator=generator)
    close(represent(x[:, order].to(dtype)).coordinates, found.coordinates[:, order], 100 * tol)


def test_columns_are_known_for_points_on_axes() -> None:
    """Extents 3 > 2 > 1 along z, x, y, and heavier ends that give the signs."""
    x = torch.zeros(1, 9, 3, dtype=torch.float64)
    for axis, (size, rows) in enumerate([(2.0, (0, 1, 2)), (1.0, (3, 4, 5)), (3.0, (6, 7, 8))]):
        x[0, list(rows), axis] = size * torch.tensor([-2.0, 1.0, 1.0], dtype=torch.float64)
    found = InitialRepresentation(3)(x + torch.tensor([4.0, -1.0, 7.0]))
    close(found.coordinates, -x[..., [2, 0, 1]], 1e-12)  # the third moments of x are negative
    close(found.gap, [(4 - 1) / 9], 1e-12)
    assert not bool(found.ambiguous.any())


def test_a_line_is_centred_up_to_its_sign() -> None:
    x = torch.tensor([[[0.0], [1.0], [5.0]], [[0.0], [-1.0], [-5.0]]])
    expected = torch.tensor([[-2.0], [-1.0], [3.0]]).expand(2, 3, 1)
    torch.testing.assert_close(InitialRepresentation(1)(x).coordinates, expected)
    chiral = InitialRepresentation(1, {"translation"})(x).coordinates
    torch.testing.assert_close(chiral, torch.stack([expected[0], -expected[0]]))


@pytest.mark.parametrize(
    "names",
    [names for k in range(1, 5) for names in itertools.combinations(sorted(ALL), k)],
    ids="+".join,
)
def test_only_the_chosen_transformations_are_ignored(names: tuple[Invariance, ...]) -> None:
    x = clouds(10, 3, 5) + 0.3
    if "reflection" in names and "rotation" not in names:
        with pytest.raises(GroupError, match="'reflection' without 'rotation'"):
            InitialRepresentation(3, names)
        return
    turn = torch.tensor(Rotation.random(10, rng=1).as_matrix())
    changes = {
        "translation": x + 2,
        "rotation": x @ turn.mT,
        "reflection": x * torch.tensor([1.0, 1.0, -1.0], dtype=x.dtype),
        "scale": 3 * x,
    }
    represent = InitialRepresentation(3, names)
    H = represent(x).coordinates
    for name, changed in changes.items():
        error = relative_change(represent(changed).coordinates, H)
        assert (error < 1e-10) == (name in names), (name, error)


def test_scale_is_the_root_mean_square_distance() -> None:
    x = clouds(5, 3, 0)
    H = InitialRepresentation(3, ALL)(x).coordinates
    close(H.square().sum(-1).mean(-1), torch.ones(5), 1e-12)
    close(pairwise(H).square().mean((1, 2)), torch.full((5,), 2.0), 1e-12)


def test_sums_of_columns_cannot_decide_signs() -> None:
    """The moment that looks natural is always zero; the one used here is not."""
    H = InitialRepresentation(3)(clouds(50, 3, 1)).coordinates
    assert float(H.sum(1).abs().max()) < 1e-11
    assert float((H**3).sum(1).min()) > 0


def test_more_coordinates_than_points_give_zero_columns() -> None:
    x = clouds(4, 3, 2)[:, :2]
    found = InitialRepresentation(3)(x)
    assert float(found.coordinates[..., 1:].abs().max()) < 1e-12
    close(pairwise(found.coordinates), pairwise(x), 1e-12)
    assert found.ambiguous.tolist() == [[True, False, False]] * 4  # two points are symmetric about their middle
    mds = classical_mds(pairwise(x), 3).coordinates
    assert mds.shape == (4, 2, 3)
    close(mds.abs(), found.coordinates.abs(), 1e-10)


def test_gradients() -> None:
    x = clouds(2, 3, 3)[:, :6].requires_grad_()
    represent = InitialRepresentation(3, ALL, differentiable=True)
    assert torch.autograd.gradcheck(lambda t: represent(t).coordinates, [x])
    assert torch.autograd.gradcheck(lambda t: classical_mds(pairwise(t), 3).coordinates.abs(), [x])


# --- symmetric inputs ------------------------------------------------------------------------------------------------
CUBE = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)[None]
ANGLES = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
PENTAGON = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)[None]


@pytest.mark.parametrize("x", [CUBE, PENTAGON], ids=["cube", "pentagon"])
def test_arbitrary_axes_are_reported(x: Tensor) -> None:
    d = x.shape[-1]
    with pytest.warns(DegenerateFrameWarning, match=r"sample 1 of x \(1 of 2\) has equal eigenvalues: relative gap"):
        InitialRepresentation(d)(torch.cat([clouds(1, d, 0)[:, : x.shape[1]], x]))
    with pytest.raises(DegenerateFrameError, match="equal eigenvalues"):
        InitialRepresentation(d, on_degenerate="error")(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        H = InitialRepresentation(d, on_degenerate="allow")(x).coordinates
        InitialRepresentation(d, {"translation", "scale"})(x)  # nothing is turned, so nothing is arbitrary
    close(pairwise(H), pairwise(x), 1e-12)


def test_the_remedy_of_the_warning_works() -> None:
    """An average over 128 angles instead of axes: what is left is the aliasing of a smooth network, below 1e-6."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 4), nn.Tanh()).double()
    exact = symmetrize(model, Symmetry(Cyclic(128), input="points", output="invariant"), how="orbit")
    turned = PENTAGON @ torch.tensor(Rotation.from_euler("z", 0.3).as_matrix()[:2, :2]).mT
    with torch.no_grad():
        close(exact(turned), exact(PENTAGON), 1e-6)
        assert relative_change(model(turned), model(PENTAGON)) > 0.01


def ordered() -> nn.Module:
    """A network of eight points that knows which is which, so that a box and its mirror images differ."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 2)).double()


def test_ambiguous_signs_are_averaged() -> None:
    """A box has distinct eigenvalues and no odd moments: one sign pattern alone would be arbitrary."""
    box = CUBE * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    turns = O(3).sample(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = TinvNN(ordered(), 3)
    assert bool(model.represent(box).ambiguous.all())
    with torch.no_grad():
        answers, single = model(box @ turns.mT), model.net(model.represent(box @ turns.mT).coordinates)
    close(answers, model(box).expand_as(answers), 1e-10)
    assert float((single - single[:1]).abs().max()) > 1e-3  # the control: without the average it is not invariant


def test_half_ambiguous_batches_meet_every_sign_equally() -> None:
    box = CUBE * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
    x = torch.cat([clouds(1, 3, 0)[:, :8], box])
    model = TinvNN(ordered(), 3)
    both = model(x)
    close(both[:1], model(x[:1]), 1e-12)
    close(both[1:], model(x[1:]), 1e-12)
    by_hand = torch.stack([model.net(box * CUBE[0, k]) for k in range(8)]).mean(0)
    by_axes = TinvNN(ordered(), 3, sign="average")(box)
    close(both[1:], by_axes, 1e-12)
    close(by_hand, by_axes, 1e-10)


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sign", ["moment", "average"])
@pytest.mark.parametrize("names", [EUCLIDEAN, {"translation", "rotation"}, {"rotation"}, ALL])
def test_contract(sign: str, names: set[Invariance]) -> None:
    x = clouds(4, 3, 0)[:, :8].float()
    model = TinvNN(net().float(), 3, names, sign=sign, differentiable=True)
    check_layer(model, x, skip=["vmap", "compile"])  # frames take a batch, and look at values; compiled below
    check_layer(model.double(), x.double(), tol=1e-10, skip=["dtype", "vmap", "compile"])


def test_compiles_where_nothing_depends_on_values() -> None:
    x = clouds(4, 3, 0)[:, :8]
    ran = check_layer(TinvNN(net(), 3, sign="average"), x, tol=1e-10, skip=["vmap"])
    assert "compile" in ran


@pytest.mark.parametrize("output", ["vectors", "points"])
@pytest.mark.parametrize("sign", ["moment", "average"])
@pytest.mark.parametrize("names", [EUCLIDEAN, {"translation", "rotation"}, {"translation", "rotation", "scale"}])
def test_outputs_move_with_the_points(output: str, sign: str, names: set[Invariance]) -> None:
    x = clouds(6, 3, 0)
    model = TinvNN(net(outputs=3), 3, names, sign=sign, output=output)
    g = model.symmetry.group.sample(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    answer = model.symmetry.output.act(g, model(x))
    close(model(model.symmetry.input.act(g, x)), answer, 1e-10)
    assert float(answer.detach().abs().max()) > 1e-3


def test_mirror_images_differ_only_where_they_should() -> None:
    x = clouds(20, 3, 0)
    mirrored = x * torch.tensor([1.0, -1.0, 1.0], dtype=x.dtype)
    for names, same in ((EUCLIDEAN, True), ({"translation", "rotation"}, False)):
        for sign in ("moment", "average"):
            model = TinvNN(net(), 3, names, sign=sign)
            assert (float((model(x) - model(mirrored)).detach().abs().max()) < 1e-10) == same


def test_columns_without_sign() -> None:
    x = clouds(5, 3, 0)
    phi = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    model = TinvNN(net(6), 3, sign="abs_net", phi=phi)
    flips = torch.tensor([-1.0, 1.0, -1.0], dtype=x.dtype)
    H = model.represent(x).coordinates
    features = torch.cat([phi(H[..., c : c + 1]) + phi(-H[..., c : c + 1]) for c in range(3)], -1)
    close(model(x), model.net(features), 1e-12)
    close(model(x * flips), model(x), 1e-10)


def test_extra_arguments_go_along() -> None:
    torch.manual_seed(0)
    x = clouds(3, 2, 0)[:, :6]
    tours = torch.stack([torch.randperm(6) for _ in range(3)])
    model = TinvNN(Pointer(2, 8, 1).double(), 2, ALL, sign="average")
    assert model(x, tours).shape == (3, 5, 6)
    turned = moved(x, torch.Generator().manual_seed(0))
    close(model(turned, tours), model(x, tours), 1e-10)


# --- distances alone -------------------------------------------------------------------------------------------------
def test_mds_of_a_metric_that_no_space_holds() -> None:
    """The four-cycle with its path metric: B has the eigenvalues 2, 2, 0, -1, so nothing reproduces it."""
    D = torch.tensor([[0.0, 1, 2, 1], [1, 0, 1, 2], [2, 1, 0, 1], [1, 2, 1, 0]], dtype=torch.float64)
    found = classical_mds(D, 3)
    close(found.values, [2.0, 2, 0, -1], 1e-12)
    close(found.negative, -0.5, 1e-12)
    close(found.strain, 1 / 3, 1e-12)
    assert float(found.coordinates[:, 2].abs().max()) == 0
    close(classical_mds(D, 1).strain, math.sqrt(5) / 3, 1e-12)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda D: D[:2], ShapeError, "distances"),
        (lambda D: D.index_put((torch.tensor(0), torch.tensor(1)), torch.tensor(9.0)), ShapeError, "not symmetric at"),
        (lambda D: D + torch.eye(3), ShapeError, "diagonal that is not zero at"),
        (lambda D: -D, ShapeError, "negative at"),
        (lambda D: D * torch.nan, NotFiniteError, "not finite"),
        (lambda D: D.long(), DtypeError, "floating"),
    ],
)
def test_bad_distances(change, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        classical_mds(change(torch.ones(3, 3) - torch.eye(3)), 2)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("names", [EUCLIDEAN, ALL, {"scale"}, {"rotation"}, {"translation", "scale"}])
@pytest.mark.parametrize("n", [1, 7])
def test_coincident_points(names: set[Invariance], n: int) -> None:
    x = torch.zeros(2, n, 3) if "translation" not in names else torch.full((2, n, 3), 0.1)
    for on_degenerate in ("warn", "error"):
        with pytest.raises(DegenerateFrameError, match=f"all its {n} points coincide"):
            InitialRepresentation(3, names, on_degenerate=on_degenerate)(x)
    found = InitialRepresentation(3, names, on_degenerate="allow")(x).coordinates
    assert float(found.abs().max()) < 1e-7


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(2, 0, 3), ShapeError, "no points"),
        (torch.zeros(5, 3), ShapeError, r"give points \[B, n, 3\]"),
        (torch.zeros(2, 5, 2), ShapeError, r"give points \[B, n, 3\]"),
        (torch.full((1, 5, 3), torch.nan), NotFiniteError, "x has 15 values"),
        (torch.zeros(1, 5, 3, dtype=torch.long), DtypeError, "floating"),
    ],
)
def test_bad_points(x: Tensor, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        InitialRepresentation(3)(x)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: InitialRepresentation(3, {"shear"}), UnknownNameError, "known are translation"),
        (lambda: InitialRepresentation(3, ()), GroupError, "empty"),
        (lambda: InitialRepresentation(0), ShapeError, "dim = 0"),
        (lambda: InitialRepresentation(3, on_degenerate="pass"), UnknownNameError, "'warn', 'error' or 'allow'"),
        (lambda: classical_mds(torch.zeros(3, 3), 0), ShapeError, "dim = 0"),
        (lambda: TinvNN(net(), 3, sign="first"), UnknownNameError, "moment, average, abs_net"),
        (lambda: TinvNN(net(), 3, output="tensor"), UnknownNameError, "invariant, vectors, points"),
        (lambda: TinvNN(net(), 3, sign="abs_net"), ModelError, "needs phi="),
        (lambda: TinvNN(net(), 3, phi=nn.Identity()), ModelError, "needs phi="),
        (lambda: TinvNN(net(), 3, sign="abs_net", phi=nn.Identity(), output="points"), ModelError, "mapped back"),
        (lambda: TinvNN(net(), 3, {"rotation"}, sign="abs_net", phi=nn.Identity()), GroupError, "mirror images"),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


# --- the remedy for surfaces that are sampled anew ---------------------------------------------------------------------
def test_steady_networks_are_as_invariant() -> None:
    x = clouds(8, 3, seed=0)
    model = SteadyTinvNN(net(), ALL).eval()
    close(model(moved(x, torch.Generator().manual_seed(0))), model(x), 1e-10)


def test_near_frames_are_other_principal_axes() -> None:
    """Moved by them, the covariance of a cloud stays what it was up to the gaps that count as near."""
    half = clouds(6, 3, seed=1)
    x = torch.cat([half, half * torch.tensor([-1.0, 1.0, 1.0], dtype=half.dtype)], 1)
    h = InitialRepresentation(3, ALL, on_degenerate="allow")(x).coordinates
    Q = near_frames(h, 5)
    close(Q @ Q.mT, torch.eye(3, dtype=Q.dtype).expand(6, 5, 3, 3), 1e-12)
    moment = (h.mT @ h / h.shape[1])[:, None]
    apart = (Q.mT @ moment @ Q - moment).abs().amax((-2, -1)) / moment.amax((-2, -1))
    assert float(apart.max()) < 2 * 2 / h.shape[1] ** 0.5


def test_clear_clouds_have_one_frame_and_balls_have_all() -> None:
    g = torch.Generator().manual_seed(0)
    scale = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    clear = torch.rand(1, 2000, 3, generator=g, dtype=torch.float64).square() * scale
    some = torch.randn(50, 3, generator=g, dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=torch.float64)
    ball = torch.cat([some.roll(k, 1) * s for k in range(3) for s in signs])[None]  # no direction is preferred
    represent = InitialRepresentation(3, ALL, on_degenerate="allow")
    h, b = represent(clear).coordinates, represent(ball).coordinates
    assert not bool(near_ties(h))
    assert bool(near_ties(b))
    close(near_frames(h, 4), torch.eye(3, dtype=h.dtype).expand(1, 4, 3, 3), 1e-12)
    spread = near_frames(b, 4000)[0]  # Haar: the mean is zero, and squares of entries are a third
    assert float(spread.mean(0).abs().max()) < 0.05
    assert float((spread.square().mean(0) - 1 / 3).abs().max()) < 0.05


def test_two_near_axes_turn_in_their_plane() -> None:
    g = torch.Generator().manual_seed(0)
    flat = torch.randn(1, 2000, 3, generator=g, dtype=torch.float64) * torch.tensor(
        [1.0, 1.0, 0.2], dtype=torch.float64
    )
    h = InitialRepresentation(3, ALL, on_degenerate="allow")(flat).coordinates
    Q = near_frames(h, 50)[0]
    assert float(Q[:, 2, :2].abs().max()) == 0
    assert float(Q[:, :2, 2].abs().max()) == 0
    assert float(Q[:, 0, 0].std()) > 0.4
