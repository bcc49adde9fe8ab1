"""Signs and swaps against what the elements are."""

import itertools

import pytest
import torch

import erlangen as er
from erlangen.errors import ActionError, DtypeError, ShapeError


def bound(group, action):
    return er.actions.parse_action(action).on(er.group(group))


@pytest.mark.parametrize(
    ("group", "signs"),
    [
        ("O(1)", [1, -1]),
        ("Flip", [1, -1]),
        ("Z4", [1, -1, 1, -1]),
        ("D3", [1, 1, 1, -1, -1, -1]),
        ("S2", [1, -1]),
    ],
)
def test_sign_of_every_element(group, signs):
    action = bound(group, "sign")
    x = torch.tensor([[[1.0, -2.0], [3.0, 0.5]]])
    moved = action.act(action.group.elements()[:, None], x)
    assert torch.equal(moved, torch.tensor(signs)[:, None, None] * x)


@pytest.mark.parametrize("group", ["O(1)", "Flip", "Z6", "D4", "S4", "O(3)", "E(2)", "O_h"])
@pytest.mark.parametrize("action", ["sign", "swap"])
def test_they_are_actions(group, action):
    action = bound(group, action)
    generator = torch.Generator().manual_seed(0)
    g, h = (action.group.sample(12, generator=generator, dtype=torch.float64) for _ in range(2))
    x = torch.randn(12, 3, 4, generator=generator)
    assert torch.equal(action.act(action.group.compose(g, h), x), action.act(g, action.act(h, x)))
    assert torch.equal(action.act(action.group.identity(dtype=torch.float64), x), x)
    assert not torch.equal(action.act(g, x), x)


def test_parity_counts_inversions():
    for permutation in itertools.permutations(range(4)):
        inversions = sum(a > b for a, b in itertools.combinations(permutation, 2))
        moved = bound("S4", "sign").act(torch.tensor(permutation), torch.ones(2))
        assert torch.equal(moved, torch.full((2,), (-1.0) ** inversions))


def test_sign_in_trees_and_sums():
    x = {"audio": torch.ones(3, 5, dtype=torch.int16), "gain": torch.ones(3)}
    moved = bound("O(1)", "sign").act(torch.tensor([0, 1, 1]), x)
    assert moved["audio"][:, 0].tolist() == [1, -1, -1]
    assert moved["audio"].dtype == torch.int16
    assert moved["gain"].tolist() == [1, -1, -1]
    moved = bound("O(3)", "sign(2) + invariant").act(-torch.eye(3), torch.ones(1, 4))
    assert moved.tolist() == [[-1, -1, 1, 1]]


def test_swap_exchanges_halves_and_entries():
    action = bound("O(1)", "swap")
    x = torch.arange(8).reshape(2, 4)
    assert action.act(torch.tensor([0, 1]), x).tolist() == [[0, 1, 2, 3], [6, 7, 4, 5]]
    rows = bound("O(1)", "swap(axis=-2)")
    assert rows.act(torch.tensor(1), x).tolist() == [[4, 5, 6, 7], [0, 1, 2, 3]]
    a, b = {"p": torch.zeros(2, 3)}, {"p": torch.ones(2, 3)}
    first, second = action.act(torch.tensor([0, 1]), (a, b))
    assert first["p"][:, 0].tolist() == [0, 1]
    assert second["p"][:, 0].tolist() == [1, 0]


def test_audits_with_signs_and_swaps():
    """|x| does not see the sign, x^3 carries it; the distance of a pair does not see the order, its difference does."""
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    odd = er.Symmetry("O(1)", input="sign", output="sign")
    even = er.Symmetry("O(1)", input="sign", output="invariant")
    assert er.assert_equivariant(lambda x: x**3, x, odd) == 0
    assert er.assert_equivariant(torch.abs, x, even) == 0
    assert float(er.equivariance_error(lambda x: x**3, even, x, reduce="max")) == 2
    pairs = er.Symmetry("S2", input="swap", output="sign")
    assert er.assert_equivariant(lambda pair: pair[0] - pair[1], (x, x**2), pairs) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bound("SO(3)", "sign"), ActionError, r"sign: SO\(3\) has no sign; it fits O\(1\)"),
        (lambda: bound("C3", "swap"), ActionError, r"swap: Cyclic\(3\) has no sign"),
        (lambda: bound("T2", "sign"), ActionError, "has no sign"),
        (lambda: bound("O(3) x S3", "sign"), ActionError, r"one action per factor, as 'sign \* invariant'"),
        (lambda: bound("O(1)", "sign(0)"), ActionError, "positive integer"),
        (lambda: bound("O(1)", "swap(axis=1)"), ActionError, "count the axis from the end"),
        (lambda: bound("O(1)", "sign").act(torch.tensor(1), torch.ones(2, dtype=torch.bool)), DtypeError, "torch.bool"),
        (lambda: bound("O(1)", "swap").act(torch.tensor(1), torch.ones(3)), ShapeError, "axis -1 has length 3"),
        (lambda: bound("O(1)", "swap").act(torch.tensor(1), (torch.ones(3), torch.ones(2))), ShapeError, "two entries"),
    ],
)
def test_what_has_no_sign(call, error, message):
    with pytest.raises(error, match=message):
        call()
