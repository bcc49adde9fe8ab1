"""Classes that move, positions that stay, gains: against what the elements do to plain lists."""

import itertools

import pytest
import torch

import erlangen as er
from erlangen.actions import Classes, Permuted, Scaled, parse_action
from erlangen.errors import ActionError, DtypeError, ShapeError

QUARTERS = [1, 2, 3, 0]  # up, right, down, left
D4 = er.Dihedral(4)


def compass() -> list[list[int]]:
    """Where each of the directions (1, 0), (0, 1), (-1, 0), (0, -1) goes under each element of D4, by its matrix."""
    arrows = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    moved = arrows @ D4.linear(D4.elements()).mT
    return torch.cdist(moved, arrows).argmin(-1).tolist()


CASES = [
    ("Flip", Classes([1, 0, 2])),
    ("Cyclic(4)", Classes(QUARTERS)),
    ("Cyclic(8)", Classes(QUARTERS)),
    ("O(3)", Classes([0, 2, 1])),
    ("E(2)", Classes([1, 0])),
    ("Symmetric(4)", Classes([1, 0])),
    ("Symmetric(4)", Classes()),
    ("Dihedral(4)", Classes(compass())),
]


@pytest.mark.parametrize(("group", "action"), CASES, ids=str)
def test_they_are_actions_on_scores_and_labels_alike(group: str, action: Classes) -> None:
    move = action.on(er.group(group))
    generator = torch.Generator().manual_seed(0)
    g, h = (move.group.sample(12, generator=generator, dtype=torch.float64) for _ in range(2))
    count = action.width(move.group)
    scores = torch.randn(12, 5, count, generator=generator)
    labels = scores.argmax(-1)
    for x in (scores, labels, torch.nn.functional.one_hot(labels, count).bool()):
        assert torch.equal(move.act(move.group.compose(g, h), x), move.act(g, move.act(h, x)))
        assert torch.equal(move.act(move.group.identity(dtype=torch.float64), x), x)
        assert not torch.equal(move.act(g, x), x)
    # The class of the largest score is renamed as labels are.
    assert torch.equal(move.act(g, scores).argmax(-1), move.act(g, labels))
    orbit = move.act(g[:, None], labels[None])
    assert torch.equal(orbit, torch.stack([move.act(element, labels) for element in g]))
    assert parse_action(action.name).on(move.group) == move


def test_directions_turn_as_arrows_do() -> None:
    move = Classes(compass()).on(D4)
    for g in D4.elements():
        assert move.act(g, torch.arange(4)).tolist() == compass()[int(g)]
    assert Classes(QUARTERS).on(er.Cyclic(4)).act(torch.tensor(3), torch.arange(4)).tolist() == [3, 0, 1, 2]


def test_ignored_labels_and_kinds_of_integers_stay() -> None:
    move = Classes([1, 0]).on(er.group("O(1)"))
    for dtype in (torch.int32, torch.uint8):
        assert move.act(torch.tensor(1), torch.tensor([0, 1, 1], dtype=dtype)).dtype == dtype
    assert move.act(torch.tensor(1), torch.tensor([[0, -100], [1, -1]])).tolist() == [[1, -100], [0, -1]]


def test_an_audit_moves_labels_with_the_classes() -> None:
    """A model that tells left from right by where a picture is bright: right under the mirror, by its labels too."""
    x = torch.rand(20, 1, 4, 6, generator=torch.Generator().manual_seed(0))

    def sides(picture: torch.Tensor) -> torch.Tensor:
        return torch.stack([picture[..., :3].mean((1, 2, 3)), picture[..., 3:].mean((1, 2, 3))], 1)

    y = sides(x).argmax(1)
    right = er.audit(sides, er.Symmetry("Flip", input="image", output="classes(1,0)"), x, y)
    assert right.worst_error < 1e-6
    assert (right.orbit_mean, right.certificate) == (1.0, "exact")
    wrong = er.audit(sides, er.Symmetry("Flip", input="image", output="invariant"), x, y)
    assert (wrong.worst_error > 0.01, wrong.orbit_mean) == (True, 0.5)
    brightest = er.Symmetry("Flip", input="image", output=Classes([1, 0]))
    labels = er.audit(lambda p: sides(p).argmax(1), brightest, x, y)
    assert labels.worst_error == 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Classes([0, 0]), "no permutation"),
        (lambda: Classes([]), "permutation"),
        (lambda: Classes([[0, 1], [0]]), "equal length"),
        (lambda: Classes([0.0, 1.0]), "no permutation"),
        (lambda: Classes([1, 2, 0]).on(er.group("Flip")), "two mirrors"),
        (lambda: Classes([1, 2, 0]).on(er.Cyclic(4)), "4 turns"),
        (lambda: Classes([1, 0]).on(er.SO(3)), "no mirrors"),
        (lambda: Classes().on(er.SO(3)), "say where each class goes"),
        (lambda: Classes([[0, 1], [1, 0]]).on(er.Cyclic(4)), "2 permutations"),
        (lambda: Classes([[0, 1, 2], [1, 2, 0]]).on(er.Cyclic(2)), "product"),
        (lambda: Classes([1, 0]).on(er.group("O(1)")).act(torch.tensor(1), torch.tensor([2])), "label 2"),
        (lambda: Classes([1, 0]).on(er.group("O(1)")).act(torch.tensor(1), torch.ones(3)), "scores"),
    ],
)
def test_refused_classes(wrong, words: str) -> None:
    with pytest.raises((ActionError, ShapeError), match=words):
        wrong()


# --- positions that stay ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fixed", [(0, -1), (0,), (2,), (1, 3)])
def test_fixed_positions_stay_and_the_others_move_in_their_order(fixed: tuple[int, ...]) -> None:
    n = 3
    move = Permuted(axis=-1, fixed=fixed).on(er.Symmetric(n))
    length = n + len(fixed)
    tokens = torch.arange(10, 10 + length)
    stay = {place % length for place in fixed}
    free = [place for place in range(length) if place not in stay]
    for images in itertools.permutations(range(n)):
        expected = tokens.tolist()
        for i, image in enumerate(images):
            expected[free[image]] = int(tokens[free[i]])
        assert move.act(torch.tensor(images), tokens).tolist() == expected


def test_fixed_positions_in_audits_and_names() -> None:
    action = parse_action("permuted(axis=-1, fixed=(0, -1))")
    assert action == Permuted(axis=-1, fixed=(0, -1))
    assert parse_action(action.name) == action
    assert parse_action("permuted(fixed=0)") == Permuted(fixed=(0,))
    symmetry = er.Symmetry("S4", input=action, output="invariant")
    tokens = torch.randint(9, (5, 6), generator=torch.Generator().manual_seed(0))
    bag = er.audit(lambda t: torch.nn.functional.one_hot(t, 9).sum(1).float() + t[:, :1] - t[:, -1:], symmetry, tokens)
    assert (bag.worst_error, bag.certificate) == (0, "exact")
    assert er.audit(lambda t: t[:, 1:2].float(), symmetry, tokens).worst_error > 0
    features = torch.randn(2, 6, 3)
    exact = er.symmetrize(
        lambda x: x[:, 1] * x[:, 0], er.Symmetry("S4", input="permuted(fixed=(0,-1))", output="invariant")
    )
    assert er.equivariance_error(exact, None, features, reduce="max") < 1e-5
    with pytest.raises(ShapeError, match="give 6"):
        er.audit(lambda t: t[:, :1].float(), symmetry, tokens[:, :5])
    with pytest.raises(ShapeError, match="ids of tokens, give axis=-1"):
        er.audit(
            lambda t: t[:, :1].float(), er.Symmetry("S4", input="permuted(fixed=(0,-1))", output="invariant"), tokens
        )
    with pytest.raises(ActionError, match="fixed"):
        Permuted(fixed=("CLS",))


# --- gains -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("power", [0, 0.0, True, "2", float("inf"), float("nan")])
def test_a_power_is_a_number_that_is_not_zero(power):
    with pytest.raises(ActionError, match="the power must be a number that is not 0"):
        Scaled(power)


@pytest.mark.parametrize("group", ["Scaling(1)", "Scaling(3)", "CSO(2)", "Similarity(3)", "GL+(2)"])
@pytest.mark.parametrize("name", ["scaled", "scaled^2", "scaled(-0.5)"])
def test_scalings_are_actions_of_any_tensor(group: str, name: str) -> None:
    move = parse_action(name).on(er.group(group))
    g, h = (move.group.sample(9, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(2))
    x = {"audio": torch.randn(9, 2, 7, dtype=torch.float64), "gain": torch.rand(9, dtype=torch.float64)}
    there, twice = move.act(move.group.compose(g, h), x), move.act(g, move.act(h, x))
    for key, value in x.items():
        assert torch.allclose(there[key], twice[key], rtol=1e-10)
        factor = torch.linalg.det(move.group.linear(g)) ** (move.action.power / move.group.space_dim)
        assert torch.allclose(move.act(g, x)[key], factor.reshape(9, *[1] * (value.ndim - 1)) * value)
    assert parse_action(move.name) == move.action


def test_an_audit_of_a_gain() -> None:
    audio = torch.randn(6, 100, generator=torch.Generator().manual_seed(0))
    gain = "Scaling(1) within factor 4"
    power = er.audit(lambda a: a.square().mean(1), er.Symmetry(gain, input="scaled", output="scaled^2"), audio)
    assert power.worst_error < 1e-5
    shape = er.audit(
        lambda a: a / a.abs().amax(1, keepdim=True), er.Symmetry(gain, input="scaled", output="invariant"), audio
    )
    assert shape.worst_error < 1e-5
    # tanh is nearly its argument for quiet sounds: the gain of 4 breaks it by far more than the gain of 1.01.
    loud, quiet = (
        er.audit(torch.tanh, er.Symmetry(f"Scaling(1) within factor {f}", input="scaled", output="scaled"), audio).error
        for f in (4, 1.01)
    )
    assert loud > 20 * quiet


def test_refused_scalings() -> None:
    for group in ("SO(3)", "SO(1000)", "E(3)", "Cyclic(4)", "Translation(2)", "SL(2)", "Shifts(4)"):
        with pytest.raises(ActionError, match="scal"):
            Scaled().on(er.group(group))
    with pytest.raises(ActionError, match="not 0"):
        Scaled(0)
    with pytest.raises(DtypeError):
        Scaled().on(er.Scaling(1)).act(torch.eye(1), torch.ones(3, dtype=torch.int64))
