"""Lifted features: convolutions against loops by the equations, exact under all rotations of the group."""

import pytest
import torch

import erlangen as er
from erlangen.actions import GroupAxis
from erlangen.errors import ActionError, ErlangenError, GroupError, ShapeError
from erlangen.groups import SO, Cyclic, Dihedral, Icosahedral, Octahedral, Symmetric, Tetrahedral
from erlangen.nn import GroupAxisAttention, GroupAxisConv, LiftedPointConv, invariant_kernel_points
from erlangen.testing import check_layer

GROUPS = [Tetrahedral(), Octahedral(), Icosahedral(), Octahedral(inversion=True)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(group, channels: int = 3, n: int = 12, m: int = 5, k: int = 6, dtype=torch.float64):
    pos = torch.randn(2, n, 3, generator=seeded(1), dtype=dtype)
    x = torch.randn(2, n, int(group.order), channels, generator=seeded(2), dtype=dtype)
    centers = pos[:, :m]
    neighbors = torch.cdist(centers, pos).topk(k, largest=False).indices
    return x, pos, centers, neighbors


@pytest.mark.parametrize("group", [*GROUPS, Cyclic(5), Dihedral(3), Symmetric(4)], ids=str)
def test_functions_on_a_group(group) -> None:
    """Entry h moves to g h; an action from the left that commutes with multiplication from the right."""
    move = GroupAxis(-1).on(group)
    elements = group.elements()
    x = torch.arange(int(group.order)).expand(3, -1)
    g = group.sample(3, generator=seeded())
    out = move.act(g, x)
    for row in range(3):
        for i in range(int(group.order)):
            goes = group.compose(g[row], elements[i])
            j = next(j for j, h in enumerate(elements) if torch.equal(h, goes))
            assert int(out[row, j]) == i
    h = group.sample(3, generator=seeded(1))
    assert torch.equal(move.act(h, out), move.act(group.compose(h, g), x))


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_kernel_points_are_closed(group) -> None:
    points = invariant_kernel_points(group, 0.7)
    turned = torch.einsum("gij,sj->gsi", group.linear(group.elements(), dtype=torch.float64), points)
    apart = (turned.flatten(0, 1)[:, None] - points).norm(dim=-1)
    assert float(apart.amin(-1).max()) < 1e-12
    assert float(points.norm(dim=-1).max()) == pytest.approx(0.7)
    assert len(points) >= 9


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("own_points", [False, True])
def test_point_convolution_by_a_loop(group, own_points) -> None:
    kernel = torch.randn(4, 3, generator=seeded(5), dtype=torch.float64) if own_points else None
    conv = LiftedPointConv(3, 2, group, radius=2.0, sigma=1.5, kernel_points=kernel, generator=seeded()).double()
    conv.kernel_points.copy_(kernel if own_points else invariant_kernel_points(group, 1.4))
    conv._turned.copy_(
        torch.einsum("gij,sj->gsi", group.linear(group.elements(), dtype=torch.float64), conv.kernel_points)
    )
    with torch.no_grad():
        conv.bias.uniform_(generator=seeded(7))
        x, pos, centers, neighbors = cloud(group)
        known = torch.rand(neighbors.shape, generator=seeded(8)) < 0.8
        out = conv(x, pos, centers, neighbors, known)
        turns = group.linear(group.elements(), dtype=torch.float64)
        for b, p, g in [(0, 0, 0), (1, 3, 5), (0, 4, 11), (1, 1, int(group.order) - 1)]:
            due = conv.bias.clone()
            for k in range(neighbors.shape[-1]):
                if not known[b, p, k]:
                    continue
                j = neighbors[b, p, k]
                for s, point in enumerate(conv.kernel_points):
                    away = pos[b, j] - centers[b, p] - turns[g] @ point
                    due += (1 - away.square().sum() / 1.5).clamp_min(0) * x[b, j, g] @ conv.weight[s]
            torch.testing.assert_close(out[b, p, g], due)


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_everything_commutes_with_the_group(group) -> None:
    conv = LiftedPointConv(3, 4, group, radius=2.0, generator=seeded()).double()
    mix = GroupAxisConv(4, 4, group, generator=seeded()).double()
    attend = GroupAxisAttention(4, heads=2, generator=seeded()).double()

    def network(x, pos, centers, neighbors):
        return attend(mix(conv(x, pos, centers, neighbors).relu()).relu())

    assert float(er.equivariance_error(network, conv.symmetry, cloud(group), elements=int(group.order)).max()) < 1e-5
    own = LiftedPointConv(3, 4, group, radius=2.0, kernel_points=torch.randn(4, 3, generator=seeded(5))).double()
    assert (
        float(er.equivariance_error(lambda *given: own(*given), own.symmetry, cloud(group), elements=20).max()) < 1e-5
    )


def test_multiplication_from_the_left_is_not_equivariant() -> None:
    """The negative control: h_i g in place of g h_i."""
    group = Octahedral()
    mix = GroupAxisConv(3, 3, group, generator=seeded()).double()
    x = torch.randn(4, 24, 3, generator=seeded(1), dtype=torch.float64)
    assert float(er.equivariance_error(mix, mix.symmetry, x, elements=24).max()) < 1e-12
    mix._source = group.compose(torch.tensor(mix.support), torch.arange(24)[:, None])
    assert float(er.equivariance_error(mix, mix.symmetry, x, elements=24).max()) > 0.1


def test_group_convolution_by_a_loop_and_its_support() -> None:
    group = Icosahedral()
    mix = GroupAxisConv(2, 3, group, generator=seeded()).double()
    assert len(mix.support) == 13  # the identity and twelve turns by 72 degrees
    x = torch.randn(60, 2, generator=seeded(1), dtype=torch.float64)
    for g in (0, 7, 59):
        due = sum(
            x[group.compose(torch.tensor(g), torch.tensor(h))] @ w for h, w in zip(mix.support, mix.weight, strict=True)
        )
        torch.testing.assert_close(mix(x)[g], due)


def test_attention_by_torch_and_under_all_permutations() -> None:
    attend = GroupAxisAttention(6, heads=3, out_channels=4, generator=seeded()).double()
    x = torch.randn(2, 24, 6, generator=seeded(1), dtype=torch.float64)
    q, k, v = (x @ w.mT for w in attend.weight[:18].split(6))
    heads = [t.unflatten(-1, (3, 2)).transpose(1, 2) for t in (q, k, v)]
    mixed = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attend(x), mixed @ attend.weight[18:].mT + attend.bias)
    order = torch.randperm(24, generator=seeded(2))
    torch.testing.assert_close(attend(x[:, order]), attend(x)[:, order])
    coded = torch.randn(24, 6, generator=seeded(3), dtype=torch.float64)
    assert float((attend(x[:, order] + coded) - attend(x + coded)[:, order]).detach().abs().max()) > 1e-3


def test_blocks_give_the_same_with_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = LiftedPointConv(3, 2, Tetrahedral(), radius=2.0, generator=seeded()).double()
    given = cloud(Tetrahedral())
    given = (given[0].requires_grad_(), *given[1:])
    whole = conv(*given)
    grads = torch.autograd.grad(whole.square().sum(), [given[0], conv.weight])
    monkeypatch.setattr("erlangen.nn.points.lifted.BLOCK", 1)
    parts = conv(*given)
    torch.testing.assert_close(parts, whole)
    again = torch.autograd.grad(parts.square().sum(), [given[0], conv.weight])
    torch.testing.assert_close(again, grads)


def test_layers_keep_the_contract() -> None:
    group = Tetrahedral()
    check_layer(LiftedPointConv(3, 2, group, radius=2.0, generator=seeded()), cloud(group, dtype=torch.float32))
    x = torch.randn(4, 12, 3, generator=seeded(1))
    check_layer(GroupAxisConv(3, 2, group, generator=seeded()), x)
    attend = GroupAxisAttention(3, generator=seeded())
    attend.symmetry = er.Symmetry(group, input=GroupAxis(-2), output=GroupAxis(-2))
    check_layer(attend, x)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: GroupAxis(0), ActionError, "count the axis of the elements from the end"),
        (lambda: GroupAxis().on(SO(3)), ActionError, r"SO\(3\) cannot be listed"),
        (
            lambda: GroupAxis().on(Cyclic(4)).act(torch.tensor(1), torch.zeros(5, 2)),
            ShapeError,
            "has 4 elements along axis -2",
        ),
        (lambda: LiftedPointConv(1, 1, SO(3), radius=1.0), GroupError, "is no finite group of rotations"),
        (lambda: LiftedPointConv(1, 1, Cyclic(4), radius=1.0), GroupError, "is no finite group of rotations"),
        (lambda: LiftedPointConv(1, 1, Octahedral(), radius=0.0), ErlangenError, "radius = 0.0"),
        (
            lambda: LiftedPointConv(1, 1, Octahedral(), radius=1.0, kernel_points=torch.zeros(3)),
            ShapeError,
            r"give \[S, 3\]",
        ),
        (
            lambda: LiftedPointConv(2, 1, Octahedral(), radius=1.0)(*cloud(Octahedral())),
            ShapeError,
            r"pass \[..., N, 24, 2\]",
        ),
        (
            lambda: LiftedPointConv(3, 1, Octahedral(), radius=1.0)(
                *cloud(Octahedral())[:3], torch.zeros(2, 4, 6).long()
            ),
            ShapeError,
            "do not fit",
        ),
        (
            lambda: GroupAxisConv(1, 1, Octahedral(), support=[0, 0]),
            ErlangenError,
            "indices of different elements, from 0 to 23",
        ),
        (lambda: GroupAxisConv(1, 1, Octahedral())(torch.zeros(12, 1)), ShapeError, r"pass \[..., 24, 1\]"),
        (lambda: GroupAxisAttention(4, heads=3), ErlangenError, "heads = 3 does not divide"),
        (lambda: GroupAxisAttention(4)(torch.zeros(24, 3)), ShapeError, r"pass \[..., order, 4\]"),
    ],
)
def test_bad_input_is_named(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


def test_another_precision_starts_from_exact_kernel_points() -> None:
    group = Icosahedral()
    conv = LiftedPointConv(1, 2, group, radius=1.0)
    there = conv.double().kernel_points
    assert torch.equal(there, invariant_kernel_points(group, 0.7))
    assert torch.equal(conv.float().double().kernel_points, there)
    own = conv.kernel_points.clone() + 0.1
    conv.load_state_dict(conv.state_dict() | {"kernel_points": own})
    assert torch.allclose(conv.float().kernel_points, own.float())  # what was loaded is kept
