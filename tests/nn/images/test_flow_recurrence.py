"""Flow-equivariant recurrence: the contract, the theorem by plain rolls, plain recurrent networks, bad input."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erlangen.actions import Image, Sequence
from erlangen.errors import (
    ActionError,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    GroupError,
    NotEquivariantError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SO, Cyclic, Dihedral, Flow, Shifts
from erlangen.measure import assert_equivariant, equivariance_error
from erlangen.nn import DriftingStates, DriftRecurrence2d, SpinningStates, SpinRecurrence2d, Spun, velocity_grid
from erlangen.nn.images.flow_recurrence import circular_pad
from erlangen.nn.images.planar import FeatureField
from erlangen.reps import Regular
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

SIZE = (12, 20)
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
CLOSED = [[r, c] for r in (0, 4, 8) for c in (0, 10)]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()  # torch compiles one function at most 8 times, and every layer here is another shape


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def drift(velocities: Tensor | list[list[int]] | None = None, dtype: torch.dtype = torch.float64) -> DriftRecurrence2d:
    layer = DriftRecurrence2d(1, 3, SIZE, velocities=velocities, generator=torch.Generator().manual_seed(1))
    assert layer.bias is not None
    torch.nn.init.uniform_(layer.bias, -0.5, 0.5, generator=torch.Generator().manual_seed(2))
    return layer.to(dtype)


def flowed(x: Tensor, rows: int, columns: int) -> Tensor:
    """Frame t of ``[B, T, ..., H, W]`` rolled by t times a velocity, with torch alone."""
    return torch.stack([x[:, t].roll((t * rows, t * columns), (-2, -1)) for t in range(x.shape[1])], 1)


def gap(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


# --- translations ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("velocities", [[[0, 0]], [[0, 0], [2, 1], [0, -3]], [[0, 0], [0, 4], [3, 0], [3, 4]]])
def test_drift_contract(velocities: list[list[int]]) -> None:
    layer = DriftRecurrence2d(2, 3, (6, 8), velocities=velocities, kernel_size=5)
    assert "symmetry" in check_layer(layer, noise(2, 3, 2, 6, 8, dtype=torch.float32))


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_theorem_on_the_overlap(dtype: torch.dtype, tol: float, activation: str) -> None:
    layer, x = drift(velocity_grid(2), dtype), noise(1, 12, 1, *SIZE, dtype=dtype)
    layer.activation = activation  # type: ignore[assignment]
    places = {tuple(nu): i for i, nu in enumerate(velocity_grid(2).tolist())}
    states = layer(x)
    for rows, columns in [(2, 0), (0, 2), (1, -1), (-2, -2), (0, 0)]:
        moved, expected = layer(flowed(x, rows, columns)), flowed(states, rows, columns)
        pairs = [
            (i, places[r - rows, c - columns]) for (r, c), i in places.items() if (r - rows, c - columns) in places
        ]
        assert len(pairs) == (5 - abs(rows)) * (5 - abs(columns))
        into, origin = (list(index) for index in zip(*pairs, strict=True))
        assert gap(moved[:, :, into], expected[:, :, origin]) < tol
        assert (rows, columns) == (0, 0) or gap(moved, expected) > 0.1  # the slices do change places


def test_frame_0_stays_where_it_is() -> None:
    """Moved by t + 1 steps in frame t, the law is another one: the state must not move in frame 0."""
    layer, x = drift(CLOSED), noise(1, 4, 1, *SIZE)
    late = torch.stack([x[:, t].roll((t + 1) * 4, -2) for t in range(4)], 1)
    early = flowed(layer(x), 4, 0)
    move = layer.symmetry.output
    assert gap(layer(flowed(x, 4, 0)), move.act(torch.tensor([4, 0]), layer(x))) < 1e-12
    assert gap(layer(late)[:, :, 0], early[:, :, 0]) > 0.1


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
def test_closed_velocities_keep_the_whole_state(dtype: torch.dtype, tol: float) -> None:
    layer, x = drift(CLOSED, dtype), noise(2, 12, 1, *SIZE, dtype=dtype)
    symmetry = layer.symmetry
    for nu in torch.tensor(CLOSED):
        assert symmetry.output.mask(nu, layer(x)) is None
        assert bool(symmetry.output.is_exact(nu, layer(x)))
    assert_equivariant(layer, x, elements=torch.tensor(CLOSED), tol=tol)
    assert not bool(symmetry.output.is_exact(torch.tensor([1, 0]), layer(x)))


def test_one_velocity_is_a_plain_recurrent_network() -> None:
    layer, x = drift([[0, 0]]), noise(2, 6, 1, *SIZE)
    h = torch.zeros(2, 3, *SIZE, dtype=x.dtype)
    for t in range(6):
        drive = F.conv2d(F.pad(x[:, t], (1, 1, 1, 1), mode="circular"), layer.input_weight, layer.bias)
        h = (F.conv2d(F.pad(h, (1, 1, 1, 1), mode="circular"), layer.state_weight) + drive if t else drive).relu()
        assert torch.equal(layer(x)[:, t, 0], h)
    expected = flowed(layer(x), 1, 1)
    assert gap(layer(flowed(x, 1, 1)), expected) > 1e-2
    whole = Symmetry(layer.symmetry.group, input=Sequence(Image(), -4), output=Sequence(Image(), -5))
    with pytest.raises(NotEquivariantError):
        assert_equivariant(layer, x, whole, elements=torch.tensor([[1, 1]]))


def test_mirrored_columns_mirror_velocities() -> None:
    layer, other, x = drift(velocity_grid(1)), drift(velocity_grid(1)), noise(1, 5, 1, *SIZE)
    with torch.no_grad():
        other.input_weight.copy_(layer.input_weight.flip(-1))
        other.state_weight.copy_(layer.state_weight.flip(-1))
    expected = layer(x).flip(-1).unflatten(2, (3, 3)).flip(3).flatten(2, 3)
    assert gap(other(x.flip(-1)), expected) < 1e-12


def test_gradients_and_short_sequences() -> None:
    rolls = [[0, 0], [1, 0], [1, -2]]
    layer = DriftRecurrence2d(
        1, 1, (2, 3), velocities=rolls, activation="tanh", generator=torch.Generator().manual_seed(0)
    )
    layer, x = layer.double(), noise(1, 3, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)
    assert layer(x[:, :0]).shape == (1, 0, 3, 1, 2, 3)
    once = layer(x[:, :1])
    assert once.shape == (1, 1, 3, 1, 2, 3)
    drive = layer.drive(x[:, 0]).tanh()
    assert all(torch.equal(once[:, 0, v], drive) for v in range(3))
    stepped = layer.update(x[:, 1], layer.advance(layer.update(x[:, 0])))
    torch.testing.assert_close(stepped, layer(x)[:, 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pad", [1, 3])
def test_circular_pad(pad: int) -> None:
    x = noise(1, 1, 3, 4).requires_grad_()
    assert torch.equal(circular_pad(x, pad), F.pad(x, (pad,) * 4, mode="circular"))
    assert torch.autograd.gradcheck(lambda x: circular_pad(x, pad), x)
    assert torch.autograd.gradgradcheck(lambda x: circular_pad(x, pad).square(), x)


# --- rotations -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("n", "velocities"), [(4, None), (8, [0, 1, 2, -3]), (6, None), (1, None)])
def test_spin_contract(n: int, velocities: list[int] | None) -> None:
    layer = SpinRecurrence2d(Cyclic(n), 2, 2, velocities=velocities, generator=torch.Generator().manual_seed(0))
    assert "symmetry" in check_layer(layer, noise(2, 3, 2, 7, 7, dtype=torch.float32))


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCES)
@pytest.mark.parametrize("n", [4, 8])
def test_spin_theorem_by_rot90(n: int, dtype: torch.dtype, tol: float) -> None:
    """A quarter turn per frame, with torch alone: pixels, orientations and velocities turn together."""
    layer = SpinRecurrence2d(Cyclic(n), 1, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    x, quarter = noise(1, 12, 1, 9, 9, dtype=dtype), n // 4

    def spun(x: Tensor) -> Tensor:
        return torch.stack([torch.rot90(x[:, t], t, (-2, -1)) for t in range(12)], 1)

    states = spun(layer(x)).unflatten(3, (2, n))
    states = torch.stack([states[:, t].roll(t * quarter, 3) for t in range(12)], 1).flatten(3, 4)
    assert gap(layer(spun(x)), states.roll(quarter, 2)) < tol
    assert gap(layer(spun(x)), states) > 0.1


@pytest.mark.parametrize("n", [4, 8, 12, 6])
def test_slices_are_advanced_as_fields_turn(n: int) -> None:
    layer = SpinRecurrence2d(Cyclic(n), 1, 2).double()
    state = noise(2, n, 2 * n, 8, 8)
    group = Cyclic(n)
    advanced, field = layer.advance(state), FeatureField(Regular(group)).on(group)
    for step in range(n):
        expected = field.act(torch.tensor(step), state[:, step])
        middle = (slice(2, 6), slice(2, 6))  # a quarter before resampling cuts other corners than one after it
        assert gap(advanced[:, step][..., *middle], expected[..., *middle]) < 1e-12


def test_one_hot_turns_counterclockwise() -> None:
    layer = SpinRecurrence2d(Cyclic(4), 1, 1).double()
    state = torch.zeros(1, 4, 4, 5, 5, dtype=torch.float64)
    state[:, 1, 0, 2, 4] = 1  # velocity 1, orientation 0, right of the middle
    moved = layer.advance(state)
    assert moved.sum() == 1
    assert moved[0, 1, 1, 0, 2] == 1  # orientation 1, above the middle


def test_round_trips_refine() -> None:
    """Turning by 45 degrees and back: quarter turns are exact, others as good as the grid is fine."""
    layer = SpinRecurrence2d(Cyclic(8), 1, 1, velocities=[0, 1, 7, 2, 6])
    errors: list[float] = []
    for side in (16, 32, 64):
        t = (torch.arange(side) + 0.5) / side - 0.5
        spot = torch.exp(-((t[:, None] - 0.1).square() + (t - 0.15).square()) / (2 * 0.08**2))
        state = spot.expand(1, 5, 8, side, side)
        there = layer.advance(state)
        back = layer.advance(there[:, [0, 2, 1, 4, 3]])
        assert torch.equal(back[:, [0, 3, 4]], state[:, [0, 3, 4]])
        errors.append(gap(back[:, 1], state[:, 1]))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_whole_group_is_approximate_on_smooth_images() -> None:
    layer = SpinRecurrence2d(Cyclic(8), 1, 2, generator=torch.Generator().manual_seed(0)).double()
    t = (torch.arange(33, dtype=torch.float64) - 16) / 16
    spot = torch.exp(-((t[:, None] - 0.1).square() / 0.06 + (t + 0.15).square() / 0.03))
    x = spot.expand(1, 4, 1, 33, 33)
    error = equivariance_error(layer, layer.symmetry_under(Cyclic(8)), x, elements=torch.arange(8), reduce="max")
    assert 1e-6 < float(error) < 0.1


# --- bad input -------------------------------------------------------------------------------------------------------
def test_bad_velocities() -> None:
    with pytest.raises(ErlangenError, match=r"holds \(1, 0\) twice"):
        drift([[0, 0], [1, 0], [1, 0]])
    with pytest.raises(ErlangenError, match="twice"):
        drift([[0, 0], [-4, 0], [8, 0]])  # the same on a torus of 12
    with pytest.raises(ErlangenError, match=r"velocities\[1\] = \(12, 0\).*smaller than \(12, 20\)"):
        drift([[0, 0], [12, 0]])
    with pytest.raises(DtypeError, match="whole pixels; pass integers"):
        DriftRecurrence2d(1, 2, SIZE, velocities=torch.tensor([[0.5, 0.0]]))
    with pytest.raises(ShapeError, match=r"give \[V, 2\]"):
        DriftRecurrence2d(1, 2, SIZE, velocities=torch.zeros(0, 2, dtype=torch.int64))
    with pytest.warns(ErlangenWarning, match="no slice rests"):
        drift([[1, 0], [0, 1]])
    with pytest.raises(ErlangenError, match="reach = -1"):
        velocity_grid(-1)
    assert velocity_grid(0).tolist() == [[0, 0]]


def test_bad_frames_and_options() -> None:
    layer = drift()
    with pytest.raises(ShapeError, match=r"\[B, T, 1, H, W\] is needed; time comes before channels: x.transpose"):
        layer(noise(2, 1, 5, *SIZE))
    with pytest.raises(ShapeError, match=r"is needed$"):
        layer(noise(2, 5, 3, *SIZE))
    with pytest.raises(ShapeError, match=r"20 x 12, but the layer was made for size = \(12, 20\)"):
        layer(noise(2, 5, 1, 20, 12))
    with pytest.raises(DtypeError, match=r"x.float\(\)"):
        layer(torch.zeros(2, 5, 1, *SIZE, dtype=torch.int64))
    with pytest.raises(UnknownNameError, match="activation = 'gelu'"):
        DriftRecurrence2d(1, 2, SIZE, activation="gelu")  # type: ignore[arg-type]
    with pytest.raises(ErlangenError, match="kernel_size = 4: give an odd side"):
        DriftRecurrence2d(1, 2, SIZE, kernel_size=4)
    with pytest.raises(ErlangenError, match=r"size = \(12,\): give \(H, W\)"):
        DriftRecurrence2d(1, 2, (12,))  # type: ignore[arg-type]


def test_bad_turns() -> None:
    with pytest.raises(
        ErlangenError, match=r"velocities\[1\] = 0.5 is no whole number of steps of 360 / 8 = 45 degrees"
    ):
        SpinRecurrence2d(Cyclic(8), 1, 2, velocities=[0, 0.5])  # type: ignore[list-item]
    with pytest.raises(ErlangenError, match="goes around"):
        SpinRecurrence2d(Cyclic(8), 1, 2, velocities=[0, 9])
    with pytest.raises(ErlangenError, match=r"use Cyclic\(n\)"):
        SpinRecurrence2d(Dihedral(4), 1, 2)  # type: ignore[arg-type]
    with pytest.raises(GroupError):
        SpinRecurrence2d(SO(2), 1, 2)  # type: ignore[arg-type]
    with pytest.raises(ErlangenError, match="kernel_size = 2"):
        SpinRecurrence2d(Cyclic(4), 1, 2, kernel_size=2)
    with pytest.raises(ShapeError, match="only square ones can be turned"):
        SpinRecurrence2d(Cyclic(4), 1, 2)(noise(1, 2, 1, 6, 8, dtype=torch.float32))


def test_actions_name_what_they_need() -> None:
    states = DriftingStates(((0, 0), (0, 1)))
    with pytest.raises(ActionError, match=r"use Flow\(Shifts\(H, W\)"):
        states.on(Shifts(4, 4))
    with pytest.raises(ActionError, match=r"use Cyclic\(n\)"):
        Spun(Image(), -4).on(Shifts(4, 4))
    with pytest.raises(ActionError, match="does not divide 4"):
        SpinningStates(((0,),), 4, Image()).on(Cyclic(3))
    flow = Flow(Shifts(4, 4), [[1, 0], [0, 1]])
    x = noise(2, 3, 2, 1, 4, 4)
    moved = states.on(flow).act(torch.tensor([0, 1]), x)
    assert torch.equal(moved[:, :, 1], flowed(x, 0, 1)[:, :, 0])
    assert not bool(moved[:, :, 0].any())  # no slice has the velocity (0, -1)
    mask = states.on(flow).mask(torch.tensor([0, 1]), x)
    assert mask is not None
    assert mask.flatten().tolist() == [False, True]
