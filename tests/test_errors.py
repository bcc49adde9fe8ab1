"""The checks that everything shares: what counts as a whole number, and what the messages name."""

import numpy as np
import pytest

from erlangen.errors import (
    ErlangenError,
    GroupError,
    UnknownNameError,
    check_integer,
    check_on_degenerate,
    check_sizes,
    is_whole,
)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, (1,), np.int64(1), -1, 4])
def test_what_is_no_whole_number_from_0_to_3(value) -> None:
    assert not is_whole(value, 0, 3)


@pytest.mark.parametrize("value", [0, 3])
def test_both_limits_are_included(value) -> None:
    assert is_whole(value, 0, 3)
    assert is_whole(value - 10**20)


def test_messages_name_the_argument_and_the_value() -> None:
    assert check_integer("n", 2, 2) == 2
    with pytest.raises(GroupError, match=r"^n = 1: give an integer of at least 2 \(a plane\)$"):
        check_integer("n", 1, 2, hint="a plane", error=GroupError)
    with pytest.raises(ErlangenError, match=r"^n = True: give an integer of at least 0$"):
        check_integer("n", True, 0)
    with pytest.raises(ErlangenError, match=r"^width = 0; give a positive number$"):
        check_sizes(depth=1, width=0)
    with pytest.raises(UnknownNameError, match=r"^on_tie = 'shout': choose 'warn', 'error' or 'allow'$"):
        check_on_degenerate("shout", "on_tie")
