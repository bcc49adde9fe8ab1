"""Answers that are dicts or tuples have an error per entry; labels move only where an action says how."""

import math
import sys

import pytest
import torch

import erlangen as er
from erlangen.errors import ActionError, DataError, ModelError, NotEquivariantError, UnknownNameError
from erlangen.measure import worst_case

F64 = torch.float64
SYM = er.Symmetry("SO(2)", input="vectors", output={"energy": "invariant", "forces": "vectors"})
X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)


def wrong_forces(x):
    """A large invariant energy, and forces that do not turn at all."""
    return {"energy": x.new_full((len(x), 1), 1e4), "forces": torch.ones_like(x)}


def chord(count):
    """|g f - f| / |f| for a vector that stays where it is: 2 |sin(t / 2)|."""
    t = 2 * math.pi * torch.arange(count, dtype=F64) / count
    return 2 * (t / 2).sin().abs()


def test_energies_hide_no_forces(tmp_path):
    report = er.audit(wrong_forces, SYM, X, elements=12)
    assert report.worst_error < 1e-3  # both together: 2 * sqrt(2) / 1e4
    assert set(report.entries) == {"energy", "forces"}
    assert float(report.entries["energy"].max()) == 0
    torch.testing.assert_close(report.entries["forces"], chord(12)[:, None].expand(12, 5), rtol=0, atol=1e-12)
    mean, worst = report.entry_errors["forces"]
    assert (mean, worst) == (pytest.approx(float(chord(12).mean())), pytest.approx(2))
    assert report.to_dict()["entries"]["forces"] == {"mean": mean, "max": worst}
    assert "error of forces" in report.to_html()
    assert er.audit(lambda x: x, er.Symmetry("SO(2)", input="vectors", output="vectors"), X).entries == {}


def test_entries_of_a_resumed_audit_are_those_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["erlangen.measure.audit"], "_block_size", lambda *sizes: 2)
    whole = er.audit(wrong_forces, SYM, X, elements=8, chunk=1)
    calls = 0

    def stopped(x):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return wrong_forces(x)

    part = er.audit(stopped, SYM, X, elements=8, chunk=1, resume=tmp_path / "state")
    assert not part.complete
    assert part.entries["forces"].shape[1] < 5
    again = er.audit(wrong_forces, SYM, X, elements=8, chunk=1, resume=tmp_path / "state")
    for path, table in whole.entries.items():
        assert torch.equal(again.entries[path], table)


def test_assertions_hold_for_every_entry():
    with pytest.raises(NotEquivariantError, match=r"relative error of 'forces' 2 > 1e-12 at element"):
        er.assert_equivariant(wrong_forces, X, SYM, elements=12)
    with pytest.raises(NotEquivariantError, match="'forces'"):
        er.assert_equivariant(wrong_forces, X, SYM, elements=12, tol=1e-2)
    assert er.assert_equivariant(wrong_forces, X, SYM, elements=12, tol={"forces": 2.1}) < 1e-3
    nested = er.Symmetry("SO(2)", input="vectors", output=("invariant", {"f": "vectors"}))
    with pytest.raises(NotEquivariantError, match=r"'1.f'"):
        er.assert_equivariant(lambda x: (x.norm(dim=1), {"f": torch.ones_like(x)}), X, nested, elements=12)
    with pytest.raises(UnknownNameError, match="tol names 'force', but the answer has energy, forces"):
        er.assert_equivariant(wrong_forces, X, SYM, tol={"force": 1.0})


# --- labels -----------------------------------------------------------------------------------------------------------
def exchange(g, scores):
    """Left and right change places with the picture."""
    return torch.where((g == 1).reshape(*g.shape, *[1] * (scores.ndim - g.ndim)), scores.flip(-1), scores)


def side(x):
    """Which half is brighter: scores of left and right."""
    return torch.stack((x[..., :2].sum((1, 2, 3)), x[..., 2:].sum((1, 2, 3))), -1)


PICTURES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = side(PICTURES).argmax(-1)


def flip_label(g, y):
    return torch.where(g == 1, 1 - y, y)


def test_labels_under_an_action_of_the_user():
    plain = er.Symmetry("Flip", input="image", output=exchange)
    with pytest.raises(ActionError, match=r"moves answers tensor\[6, 2\], but y is tensor\[6\]; say how labels move"):
        er.audit(side, plain, PICTURES, LABELS)
    with pytest.raises(ActionError, match="say how labels move"):
        worst_case(side, plain, PICTURES, LABELS)
    says = er.Symmetry("Flip", input="image", output=er.actions.Custom(exchange, labels=flip_label))
    assert er.audit(side, says, PICTURES, LABELS).scores.min() == 1
    stays = er.Symmetry(
        "Flip", input="image", output=er.actions.Custom(exchange, labels=lambda g, y: y.expand(len(g), -1))
    )
    assert er.audit(side, stays, PICTURES, LABELS).scores.mean(1).tolist() == [1, 0]


def test_one_hot_labels_move_as_scores():
    sym = er.Symmetry("Flip", input="image", output=exchange)
    one_hot = torch.nn.functional.one_hot(LABELS, 2)
    for y in (one_hot, one_hot.float()):
        report = er.audit(side, sym, PICTURES, y, metric="accuracy")
        assert report.scores.min() == 1
        entropy = er.audit(side, sym, PICTURES, y, metric="cross_entropy").base
        torch.testing.assert_close(
            entropy, torch.nn.functional.cross_entropy(side(PICTURES).double(), LABELS, reduction="none")
        )


def test_the_vote_of_an_orbit_stays_where_it_is():
    """Votes are labels of the picture as given: every answer, brought back, agrees with them."""
    report = er.audit(side, er.Symmetry("Flip", input="image", output=exchange), PICTURES, metric="accuracy")
    assert report.consensus.min() == 1


def test_signs_do_not_move_class_labels():
    sym = er.Symmetry("O(1)", input="sign", output="sign")
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ActionError, match="say how labels move"):
        er.audit(lambda x: x, sym, x, torch.tensor([0, 1, 2, 0]))
    assert er.audit(lambda x: x[:, :1], sym, x, x[:, 0], metric="mse").scores.max() == 0


# --- metrics without labels -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: worst_case(lambda x: x, SO2, X, metric="cosine"), DataError, "metric 'cosine' compares answers with labels"),
        (lambda: er.audit(wrong_forces, SYM, X, metric="cosine"), ModelError,
         "compares tensors, but the prediction is .*which may compare one entry"),
        (lambda: er.audit(lambda x: x.norm(dim=1), INVARIANT, X, metric="cosine"), ModelError, "two entries or more"),
    ],
)  # fmt: skip
def test_what_a_metric_needs(call, error, message):
    with pytest.raises(error, match=message):
        call()


SO2 = er.Symmetry("SO(2)", input="vectors", output="vectors")
INVARIANT = er.Symmetry("SO(2)", input="vectors", output="invariant")
