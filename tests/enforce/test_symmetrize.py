"""`symmetrize`: exactness for every method and output, degenerate inputs, training, saving, exporting, errors."""

# pyright: reportArgumentType=false

import math
from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from erlangen.enforce import FrameSet, PCAFrame, PointsFrame, Symmetrized, symmetrize
from erlangen.groups import (
    CSO,
    SE,
    SO,
    Cyclic,
    E,
    Group,
    O,
    Octahedral,
    Scaling,
    Shifts,
    Similarity,
    Symmetric,
    Translation,
)
from erlangen.symmetry import Symmetry
from helpers.point_models import TOLERANCE, PointNet, cloud, model_for

GROUPS: list[Group] = [O(3), SO(3), E(3), SE(3), E(2), SE(2), SE(4), Translation(3), Scaling(3), CSO(2), Similarity(3)]


def error(model: Symmetrized, x: Any, g: Tensor) -> float:
    """Largest relative equivariance error over the batch."""
    act_in, act_out = model.symmetry.input.act, model.symmetry.output.act
    with torch.no_grad():
        moved, expected = model(act_in(g, x)), act_out(g, model(x))
    difference = (moved - expected).flatten(1).norm(dim=1)
    return float((difference / expected.flatten(1).norm(dim=1)).max())


def plain_error(model: nn.Module, symmetry: Symmetry, x: Tensor, g: Tensor) -> float:
    with torch.no_grad():
        moved, expected = model(symmetry.input.act(g, x)), symmetry.output.act(g, model(x))
    return float((moved - expected).norm() / expected.norm())


# --- exactness -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["frames", "canonical"])
@pytest.mark.parametrize("output", ["invariant", "points", "vectors", "spd"])
@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_any_model_becomes_equivariant(group: Group, output: str, how: Any, dtype: torch.dtype) -> None:
    n = group.space_dim
    symmetry = Symmetry(group, input="points", output=output)
    net = model_for(output, n).to(dtype)
    model = symmetrize(net, symmetry, how)
    x = cloud(20, 30, n, dtype=dtype)
    g = group.sample(20, generator=torch.Generator().manual_seed(1), dtype=dtype)
    assert model.certificate == "exact"
    assert bool((model.frame(x).gap > 1e-2).all())
    assert error(model, x, g) < TOLERANCE[dtype]
    assert plain_error(net, symmetry, x, g) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", [E(3, translation_scale=10.0), SE(3, translation_scale=10.0)], ids=str)
def test_a_hundred_motions_far_away(group: Group, dtype: torch.dtype) -> None:
    """100 Haar elements with translations of standard deviation 10."""
    symmetry = Symmetry(group, input="points", output="invariant")
    model = symmetrize(PointNet(3, 5).to(dtype), symmetry)
    x = cloud(1, 40, 3, dtype=dtype).expand(100, -1, -1)
    g = group.sample(100, generator=torch.Generator().manual_seed(2), dtype=dtype)
    assert error(model, x, g) < TOLERANCE[dtype]


def test_float32_clouds_far_from_the_origin() -> None:
    # Multiples of 2^-10 stay representable after adding 1e4, so all error is the model's.
    x = (cloud(10, 30, 3) * 1024).round().div(1024).float()
    cases: list[tuple[Group, str]] = [(Translation(3), "invariant"), (SE(3), "invariant"), (E(3), "points")]
    for group, output in cases:
        model = symmetrize(model_for(output, 3), Symmetry(group, input="points", output=output))
        near, far = model(x), model(x + 1e4)
        far = far - 1e4 if output == "points" else far
        # Outputs near 1e4 have a spacing of 2^-10 of their own.
        assert (near - far).abs().max() < (1e-3 if output == "points" else 1e-6)


def test_positions_velocities_and_charges_in_a_dict() -> None:
    class Dynamics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = PointNet(7, 6, pool=False).double()

        def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
            out: Tensor = self.net(torch.cat([x["pos"], x["vel"], x["charge"]], -1))
            return {"pos": x["pos"] + out[..., :3], "energy": out[..., 3].sum(-1), "torque": out[..., 3:]}

    symmetry = Symmetry(
        E(3),
        input={"pos": "points", "vel": "vectors", "charge": "invariant"},
        output={"pos": "points", "energy": "invariant", "torque": "pseudovectors"},
    )
    model = symmetrize(Dynamics(), symmetry)
    x = {"pos": cloud(6, 5, 3, 1), "vel": cloud(6, 5, 3, 2), "charge": torch.randn(6, 5, 1, dtype=torch.float64)}
    g = E(3).sample(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved, expected = model(symmetry.input.act(g, x)), symmetry.output.act(g, model(x))
    assert set(moved) == {"pos", "energy", "torque"}
    for key in moved:
        torch.testing.assert_close(moved[key], expected[key], rtol=1e-12, atol=1e-12)
    assert expected["torque"].abs().min() > 0


def test_two_sensors_turn_together() -> None:
    """Six channels, accelerometer and gyroscope; against rotations from scipy."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(50 * 6, 4)).double()
    model = symmetrize(net, Symmetry("SO(3)", input="vectors + vectors", output="invariant"))
    x = torch.cat([cloud(8, 50, 3, 1), cloud(8, 50, 3, 2)], -1)
    matrices = Rotation.random(8, rng=0).as_matrix()
    turned = torch.einsum("bij,btsj->btsi", torch.from_numpy(matrices), x.unflatten(-1, (2, 3))).flatten(2)
    torch.testing.assert_close(model(turned), model(x), rtol=0, atol=1e-12)


def test_channels_first() -> None:
    net = nn.Sequential(nn.Conv1d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).double()
    model = symmetrize(net, Symmetry("SO(3)", input="vectors(axis=-2)", output="invariant"))
    x = cloud(4, 20, 3).mT
    g = SO(3).sample(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert error(model, x, g) < 1e-12


def test_mirror_images_stay_apart_under_proper_motions() -> None:
    class Chiral(nn.Module):
        """The signed volume of the first four points."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.det(x[:, 1:4] - x[:, :1])[:, None]

    x = cloud(10, 6, 3)
    mirrored = x * torch.tensor([-1.0, 1.0, 1.0], dtype=x.dtype)
    proper = symmetrize(Chiral(), Symmetry(SE(3), input="points", output="invariant"))
    torch.testing.assert_close(proper(mirrored), -proper(x))
    torch.testing.assert_close(proper(x), Chiral()(x))
    full = symmetrize(Chiral(), Symmetry(E(3), input="points", output="invariant"))
    torch.testing.assert_close(full(x), torch.zeros_like(full(x)), rtol=0, atol=1e-12 * float(x.abs().max() ** 3))


# --- algebra of averaging --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["frames", "canonical"])
def test_invariant_models_stay_as_they_are(how: Any) -> None:
    class Distances(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(x, x).sort(-1).values.sum(1)

    x = cloud(5, 8, 3)
    model = symmetrize(Distances(), Symmetry(E(3), input="points", output="invariant"), how)
    torch.testing.assert_close(model(x), Distances()(x), rtol=0, atol=1e-10)


def test_symmetrizing_twice_changes_nothing() -> None:
    symmetry = Symmetry(SE(3), input="points", output="vectors")
    once = symmetrize(PointNet(3, 3, pool=False).double(), symmetry)
    x = cloud(5, 8, 3)
    torch.testing.assert_close(symmetrize(once, symmetry)(x), once(x), rtol=0, atol=1e-11)


def test_order_of_points_and_of_samples_does_not_matter() -> None:
    model = symmetrize(PointNet(3, 4), Symmetry(SE(3), input="points", output="invariant"))
    x = cloud(8, 12, 3, dtype=torch.float32)
    out = model(x)
    for order in (torch.randperm(12), torch.arange(12).flip(0)):
        torch.testing.assert_close(model(x[:, order]), out, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(x.flip(0)).flip(0), out, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat([model(s) for s in x.split(3)]), out, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_chunks_do_not_matter(chunk: int) -> None:
    net, symmetry = PointNet(3, 3, pool=False).double(), Symmetry(E(3), input="points", output="points")
    x = cloud(4, 6, 3)
    torch.testing.assert_close(symmetrize(net, symmetry, chunk=chunk)(x), symmetrize(net, symmetry, chunk=8)(x))


def test_orbit_average_of_quarter_turns_is_the_plain_average() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).double()
    model = symmetrize(net, Symmetry(Cyclic(4), input="image", output="invariant"))
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    plain = torch.stack([net(torch.rot90(x, k, (-2, -1))) for k in range(4)]).mean(0)
    assert model.how == "orbit"
    assert model.certificate == "exact"
    torch.testing.assert_close(model(x), plain, rtol=0, atol=1e-14)


def test_orbit_average_commutes_with_shifts() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.Tanh(), nn.Unflatten(1, (3, 4))).double()
    model = symmetrize(net, Symmetry(Shifts(3, 4), input="rolled", output="rolled"))
    x = torch.randn(5, 3, 4, dtype=torch.float64)
    rolled = torch.roll(x, (1, 2), (1, 2))
    torch.testing.assert_close(model(rolled), torch.roll(model(x), (1, 2), (1, 2)))


def test_finite_rotations_of_vectors() -> None:
    net = PointNet(3, 3, pool=False).double()
    model = symmetrize(net, Symmetry(Octahedral(), input="points", output="vectors"))
    x, g = cloud(5, 4, 3), torch.arange(5)
    assert error(model, x, g) < 1e-13


def test_sampled_orbits_are_labelled_and_shrink_the_error() -> None:
    symmetry = Symmetry(SO(2), input="vectors", output="invariant")
    net, x = PointNet(2, 3).double(), 0.2 * cloud(5, 8, 2)
    g = SO(2).sample(5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    few, many = (symmetrize(net.eval(), symmetry, "orbit", samples=k) for k in (2, 64))
    assert few.certificate == many.certificate == "statistical"
    assert error(many, x, g) < 1e-3 * error(few, x, g)
    torch.testing.assert_close(few(x), few(x), rtol=0, atol=0)
    assert (few.train()(x) - few(x)).abs().max() > 0


# --- points and frames of one's own ----------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [SE(3), SO(3), SE(2)], ids=str)
def test_frames_from_points(group: Group) -> None:
    n = group.space_dim
    frame = PointsFrame(tuple(range(n)))
    model = symmetrize(PointNet(n, n, False).double(), Symmetry(group, input="points", output="points"), frame=frame)
    g = group.sample(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (model.how, model.certificate) == ("points", "exact")
    assert error(model, cloud(6, 8, n), g) < 1e-12


def test_a_frame_is_any_function() -> None:
    def first_point(x: Tensor) -> FrameSet:
        g = Translation(2).join(torch.eye(2, dtype=x.dtype), x[:, :1])
        return FrameSet(g, torch.ones(len(x), 1), torch.ones(len(x)))

    symmetry = Symmetry(Translation(2), input="points", output="points")
    model = symmetrize(PointNet(2, 2, False).double(), symmetry, frame=first_point)
    g = Translation(2).sample(4, dtype=torch.float64)
    assert error(model, cloud(4, 3, 2), g) < 1e-12


# --- masks and further arguments -------------------------------------------------------------------------------------
@pytest.mark.parametrize("output", ["invariant", "points"])
def test_padding_changes_nothing(output: str) -> None:
    model = symmetrize(model_for(output, 3).double(), Symmetry(SE(3), input="points", output=output))
    x = cloud(4, 9, 3)
    padded = torch.cat([x, torch.full((4, 3, 3), math.nan, dtype=x.dtype)], 1)
    mask = (torch.arange(12) < 9).expand(4, -1)
    torch.testing.assert_close(model(padded, mask=mask)[:, :9], model(x), rtol=0, atol=1e-12)


def test_the_model_sees_zeros_and_the_mask_in_padded_rows() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(x: dict[str, Tensor], mask: Tensor) -> Tensor:
        seen.append((x["pos"], mask))
        assert bool((x["type"][~mask] == 0).all())
        return x["pos"].sum((1, 2))

    symmetry = Symmetry(SO(3), input={"pos": "points", "type": "invariant"}, output="invariant")
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    model = symmetrize(spy, symmetry, chunk=4)
    model({"pos": cloud(2, 4, 3), "type": torch.ones(2, 4, 5)}, mask=mask)
    pos, given_mask = seen[0]
    assert pos.shape == (8, 4, 3)
    assert torch.equal(given_mask, mask.repeat_interleave(4, 0))
    assert bool((pos[:4, 3] == 0).all())
    assert bool((pos[4:, 3] != 0).all())


def test_masked_channels_first_and_weights() -> None:
    symmetry = Symmetry(SO(3), input="vectors(axis=-2)", output="invariant")
    model = symmetrize(lambda x, mask: x.square().sum(1) @ torch.eye(6, dtype=x.dtype), symmetry)
    x = cloud(2, 6, 3).mT
    weights = torch.tensor([2.0, 1.0, 1.0, 0.5, 0.0, 0.0]).expand(2, -1)
    expected = x.square().sum(1) * (weights > 0)
    torch.testing.assert_close(model(x, mask=weights), expected)


def test_masks_move_with_sorted_nodes() -> None:
    symmetry = Symmetry(Symmetric(5), input="permuted", output="invariant")
    position = torch.arange(1.0, 6.0)
    model = symmetrize(lambda x, mask: (x[..., 0] * mask * position).sum(1, keepdim=True), symmetry)
    x = torch.tensor([[[4.0], [1.0], [3.0], [9.0], [2.0]]])
    mask = torch.tensor([[True, True, True, False, True]])
    # Sorted: 1, 2, 3, 4 at places 1 to 4.
    torch.testing.assert_close(model(x, mask=mask), torch.tensor([[1.0 + 4.0 + 9.0 + 16.0]]))


def test_further_tensors_are_repeated_and_the_rest_is_passed_on() -> None:
    def conditional(x: Tensor, t: Tensor, scale: float, *, extra: dict[str, Tensor]) -> Tensor:
        return x.square().sum((1, 2)) * t * scale + extra["bias"][:, 0]

    model = symmetrize(conditional, Symmetry(SE(3), input="points", output="invariant"))
    x, t, bias = cloud(5, 6, 3), torch.arange(5.0), torch.randn(5, 2)
    centred = x - x.mean(1, keepdim=True)
    expected = centred.square().sum((1, 2)) * t * 2.0 + bias[:, 0]
    torch.testing.assert_close(model(x, t, 2.0, extra={"bias": bias}), expected)


# --- random frames ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("own", [False, True])
def test_random_frames_are_unbiased_in_training_and_whole_in_evaluation(own: bool) -> None:
    symmetry = Symmetry(E(3), input="points", output="invariant")
    net, x = PointNet(3, 2).double(), 0.3 * cloud(1, 6, 3)
    frame = (lambda z: PCAFrame(symmetry)(z)) if own else None
    model = symmetrize(net, symmetry, samples=2, frame=frame)
    exact = symmetrize(net, symmetry)(x)[0]
    with torch.no_grad():
        draws = model.train()(x.expand(2000, -1, -1))
    assert model.certificate == "statistical"
    assert bool((draws.std(0) > 1e-3).all())
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 2000**0.5).all())
    torch.testing.assert_close(model.eval()(x)[0], exact)
    assert model.certificate == "exact"


def test_the_stream_of_random_frames_is_seeded_and_advances() -> None:
    symmetry = Symmetry(E(3), input="points", output="invariant")
    net, x = PointNet(3, 2), cloud(3, 6, 3, dtype=torch.float32)
    first, second = (symmetrize(net, symmetry, samples=1, seed=7).train() for _ in range(2))
    a, b = torch.stack([first(x) for _ in range(6)]), torch.stack([second(x) for _ in range(6)])
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (a - a[0]).abs().amax() > 0
