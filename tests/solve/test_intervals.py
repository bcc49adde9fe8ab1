"""Proofs by intervals of inequalities that are known, true, false and on the edge."""

import pytest
from mpmath import iv

from erlangen.errors import ErlangenError
from erlangen.solve import prove_positive


def test_a_true_inequality_that_one_interval_does_not_show() -> None:
    proof = prove_positive(lambda x: x * x - x + 0.2501, -1, 2)  # least value 1e-4 at 1/2
    assert proof.holds
    assert proof.pieces > 10
    assert 0 < proof.least <= 1e-4
    assert proof.open is None


def test_a_false_one_names_the_place() -> None:
    proof = prove_positive(lambda x: iv.cos(x), 0, 3)
    assert proof.holds is False
    assert proof.open is not None
    low, high = proof.open
    assert 1.57 < low < high <= 3


def test_undecided_after_so_many_pieces() -> None:
    assert prove_positive(lambda x: x * x, -1, 1, max_pieces=50).pieces == 50
    assert prove_positive(lambda x: x * x, -1, 1, max_pieces=50).holds is None
    assert prove_positive(lambda x: x * x, 0, 0).holds is False  # a point is decided


def test_functions_without_a_value_on_wide_intervals() -> None:
    assert prove_positive(lambda x: None if float(x.delta) > 0.25 else x + 2, -1, 1).holds
    assert prove_positive(lambda x: 1 / (x + 2), -1, 1).holds


def test_digits_are_given_back() -> None:
    before = iv.dps
    prove_positive(lambda x: x + 2, 0, 1, digits=50)
    assert iv.dps == before


def test_bad_intervals() -> None:
    for ends in ((1, 0), (float("nan"), 1), (0, float("inf"))):
        with pytest.raises(ErlangenError, match="two finite numbers in order"):
            prove_positive(lambda x: x, *ends)
    with pytest.raises(ErlangenError, match="max_pieces"):
        prove_positive(lambda x: x, 0, 1, max_pieces=0)
