"""Properties: functions become claims, in both precisions, with names and sentences of their own."""

import math

import pytest
import torch

from erlangen.survey import ClaimError, Run, bound, exact, largest, number, properties


@exact(tol=1e-12, float32=1e-5, published="exact")
def sum_of_angles(run: Run, dtype: torch.dtype) -> float:
    """Error of the sum
    of three angles.
    """
    return 1e-13 if dtype is torch.float64 else 1e-6


@exact(tol=0)
def exceptions(run: Run) -> float:
    """How many of ten are wrong."""
    return 2


@bound(at_least=0.5)
def size_of_gap(run: Run) -> float:
    """Size of the gap."""
    return 0.7


@number(15, tol=0.5)
def number_of_maps(run: Run) -> float:
    """Number of maps."""
    return float(14 + len(run.seeds))


def test_names_and_docstrings_are_ids_and_statements() -> None:
    part = properties(Run("smoke"), sum_of_angles, exceptions, size_of_gap, number_of_maps)
    assert [(c.id, c.kind, c.statement, c.threshold, c.verdict) for c in part.claims] == [
        ("sum-of-angles", "exact", "Error of the sum of three angles.", "<= 1e-12", "holds"),
        ("sum-of-angles-float32", "exact", "Error of the sum of three angles, in float32.", "<= 1e-05", "holds"),
        ("exceptions", "exact", "How many of ten are wrong.", "<= 0", "fails"),
        ("size-of-gap", "bound", "Size of the gap.", ">= 0.5", "holds"),
        ("number-of-maps", "number", "Number of maps.", "15 +- 0.5", "holds"),
    ]
    assert part.claims[0].published == "exact"
    assert part.claims[4].published is None
    assert [row["property"] for row in part.rows] == [claim.id for claim in part.claims]


def test_it_is_still_a_function() -> None:
    assert sum_of_angles(Run(), torch.float32) == 1e-6
    assert exceptions(Run()) == 2


def test_a_property_says_what_it_is() -> None:
    def silent(run: Run) -> float:
        return 0.0

    with pytest.raises(ClaimError, match="property 'silent' has no docstring"):
        properties(Run(), exact()(silent))
    with pytest.raises(ClaimError, match="'silent' has a tolerance in float32, but takes no dtype"):
        exact(float32=1e-5)(silent)
    with pytest.raises(ClaimError, match="at_least = None, at_most = None; pass one"):
        properties(Run(), bound()(exceptions.measure))


@pytest.mark.parametrize("place", range(3))
def test_largest_keeps_what_failed(place: int) -> None:
    """The built-in max forgets NaN in all places but the first."""
    values = [1.0, 3.0, 2.0]
    assert largest(values) == largest(*values) == largest(iter(values)) == 3.0
    values[place] = float("nan")
    assert math.isnan(largest(values))
    assert math.isnan(largest(*values))
