"""Every error and warning of the library.

All errors derive from `ErlangenError`, which is a `ValueError`, so `except ValueError` keeps working. A message names
the argument, the batch index where there is one, the value and the remedy.
"""

from __future__ import annotations

import cmath
import warnings
from typing import Literal, TypeGuard, get_args

import torch
from torch import Tensor

OnDegenerate = Literal["warn", "error", "allow"]
"""What happens to an input that does not determine the result: a warning, an error, or nothing."""


class ErlangenError(ValueError):
    """Base of every error that this library raises on purpose."""


class ShapeError(ErlangenError):
    """A tensor has a shape that the call cannot use."""


class DtypeError(ErlangenError):
    """A tensor has a dtype that the call cannot use."""


class NotFiniteError(ErlangenError):
    """A tensor holds NaN or Inf."""


class GroupError(ErlangenError):
    """A group is asked for something that it does not have, or is built from parts that do not fit."""


class GroupElementError(ErlangenError):
    """A tensor is not an element of the group."""


class MatrixFunctionError(ErlangenError):
    """A matrix has no (real, principal) logarithm or root, or none that its dtype can resolve."""


class ActionError(ErlangenError):
    """An action does not fit the group."""


class SymmetryError(ErlangenError):
    """A symmetry is declared incompletely, or two structures that must match do not."""


class UnknownNameError(ErlangenError):
    """A name in a string (group, action, metric) is not known."""


class RepresentationError(ErlangenError):
    """A representation belongs to another group, or cannot do what is asked of it."""


class DegenerateFrameError(ErlangenError):
    """A frame is not determined by the input: equal eigenvalues, coincident points, zero covariance."""


class OrbitError(ErlangenError):
    """An orbit is too large to enumerate, or its elements cannot be used."""


class ModelError(ErlangenError):
    """A model cannot be called as the audit or the wrapper needs it."""


class NondeterministicModelError(ModelError):
    """A model gives two answers to one input."""


class BatchDependenceError(ModelError):
    """A model's answer for a sample changes with the rest of the batch."""


class NotEquivariantError(ErlangenError, AssertionError):
    """A model that was asserted to be equivariant is not."""


class IrrepsError(ErlangenError):
    """A text is no list of irreps, a degree or parity does not exist, or irreps cannot be coupled."""


class GridError(ErlangenError):
    """A grid is too coarse for the exactness that a transform promises, or cannot be built."""


class ConventionError(ErlangenError):
    """A layer was saved under other conventions than it is loaded under, and cannot be converted."""


class DataError(ErlangenError):
    """A file or data set cannot be read, or does not fit the call."""


class CheckpointError(DataError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class MissingExtraError(ErlangenError, ImportError):
    """An optional dependency is needed and is not installed."""

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        wanted = package if extra is None else f"'erlangen[{extra}]'"  # what is in no extra is installed by itself
        super().__init__(f"{purpose} needs the package {package!r}; install it with: pip install {wanted}")
        self.package, self.extra = package, extra


class ErlangenWarning(UserWarning):
    """Base of every warning of this library."""


class DegenerateFrameWarning(ErlangenWarning):
    """A frame is close to undetermined; the result may be inexact for the samples named."""


class TrainModeWarning(ErlangenWarning):
    """A module came in train mode and was switched to eval mode for the measurement."""


class LayoutWarning(ErlangenWarning):
    """A tensor looks as if its axes lay in another order than declared."""


class StepWarning(ErlangenWarning):
    """A derivative by differences depends on the step, as that of a function with jumps does."""


class CacheWarning(ErlangenWarning):
    """A cached file is damaged or cannot be written; the result was computed afresh."""


class RepeatedRowsWarning(ErlangenWarning):
    """Rows that count as independent look like copies of one another; say which belong together by ``groups=``."""


class LossSizeWarning(ErlangenWarning):
    """Answers vary so much that a penalty of natural size is nothing beside their loss."""


class CollapseWarning(ErlangenWarning):
    """A penalty has driven the answers of a model towards a constant."""


class NotConvergedWarning(ErlangenWarning):
    """Numbers that are still on their way were read."""


def first_index(bad: Tensor) -> tuple[int, ...]:
    """Index of the first true entry of a boolean tensor, as a tuple of ints."""
    return tuple(int(i) for i in torch.nonzero(bad)[0])


def check_on_degenerate(value: str, name: str = "on_degenerate") -> None:
    """Raise `UnknownNameError` unless the value is one of `OnDegenerate`."""
    if value not in get_args(OnDegenerate):
        raise UnknownNameError(f"{name} = {value!r}: choose 'warn', 'error' or 'allow'")


def tell_degenerate(message: str, how: str, *, stacklevel: int = 2) -> None:
    """Raise `DegenerateFrameError` where `how` is "error", else warn with `DegenerateFrameWarning`.

    `stacklevel` counts from the caller, as for `warnings.warn`.
    """
    if how == "error":
        raise DegenerateFrameError(message)
    warnings.warn(message, DegenerateFrameWarning, stacklevel=stacklevel + 1)


def check_finite(x: Tensor, name: str) -> None:
    """Raise `NotFiniteError` when a floating or complex tensor holds NaN or Inf; name the first index."""
    if not is_finite(x):
        bad = ~torch.isfinite(x)
        index = first_index(bad)
        raise NotFiniteError(
            f"{name} has {int(bad.sum())} values that are not finite, the first at index {index} "
            f"({x[index].item()}); remove or impute them before the call"
        )


def is_finite(x: Tensor) -> bool:
    """Whether a tensor of any dtype is free of NaN and Inf.

    A sum with such a value is not finite, so a finite sum tells that there is none, several times faster than a look at each
    value. Where the sum overflows, each value is looked at.
    """
    if not (x.is_floating_point() or x.is_complex()):
        return True
    return cmath.isfinite(x.detach().sum().item()) or bool(torch.isfinite(x).all())


def check_floating(x: Tensor, name: str) -> None:
    """Raise `DtypeError` when a tensor is not floating point."""
    if not x.is_floating_point():
        raise DtypeError(f"{name} has dtype {x.dtype}, but a floating dtype is needed; call {name}.float()")


def is_whole(value: object, least: int | None = None, most: int | None = None) -> TypeGuard[int]:
    """Whether a value is an int (a bool is none) from `least` to `most`, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def check_integer(
    name: str, value: object, least: int, *, hint: str = "", error: type[ErlangenError] = ErlangenError
) -> int:
    """The value, if it is an integer of at least `least`; otherwise raise `error`, which names it and ends with the hint."""
    if not is_whole(value, least):
        raise error(f"{name} = {value!r}: give an integer of at least {least}{hint and f' ({hint})'}")
    return value


def check_sizes(**sizes: int) -> None:
    """Raise `ErlangenError` when a size is not positive; name it."""
    for name, size in sizes.items():
        if size < 1:
            raise ErlangenError(f"{name} = {size}; give a positive number")
