"""Values of the harmonics by sphericart, where it is installed: compiled code, a few times faster than torch's operations."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from torch import Tensor

from erlangen.errors import ErlangenWarning
from erlangen.irreps import _recursion
from erlangen.irreps.cache import constant
from erlangen.tracing import is_recorded

VARIABLE = "ERLANGEN_SPHERICART"

_state: dict[str, Any] = {"wanted": os.environ.get(VARIABLE, "1") != "0"}


def use_sphericart(wanted: bool) -> bool:
    """Whether harmonics are computed by sphericart where it is installed; returns what held before.

    >>> before = use_sphericart(False)  # from here on by the operations of torch
    >>> use_sphericart(before)
    False

    Values agree up to rounding. On CPUs sphericart computes them, one to seven times faster; derivatives, other devices and
    compiled programs are left to this library. Without a call it is used, unless the environment variable
    ``ERLANGEN_SPHERICART`` is 0.
    """
    before: bool = _state["wanted"]
    _state["wanted"] = bool(wanted)
    return before


def calculator(lmax: int, x: Tensor) -> Any:
    """sphericart's solid harmonics up to `lmax`, or ``None`` where x has to be evaluated by torch."""
    if not _state["wanted"] or x.device.type != "cpu" or type(x) is not Tensor or is_recorded():
        return None
    module = _module()
    if module is None:
        return None
    made: dict[int, Any] = _state.setdefault("made", {})
    if lmax not in made:
        made[lmax] = module.SolidHarmonics(lmax)
    return made[lmax]


def evaluate(made: Any, x: Tensor, lmax: int, normalize: bool, normalization: str) -> Tensor:
    """The harmonics ``[..., (lmax + 1)^2]`` of points ``[..., 3]``, contiguous, without autograd."""
    point = _recursion.coordinates(x.reshape(-1, 3), normalize)
    rows = torch.stack([point.u, point.v, point.w], -1)  # polar axis last
    if normalization == "integral" and x.ndim == 2:
        return made.compute(rows)
    # Written into memory of its own: a view would not be allowed as a dual number.
    out = x.new_empty(*x.shape[:-1], (lmax + 1) ** 2)
    factors = _factors(lmax, normalization, x.dtype)
    flat = out.view(-1, out.shape[-1])
    step = max(1, _recursion.BLOCK_BYTES // (out.shape[-1] * x.element_size()))
    for part, into in zip(rows.split(step), flat.split(step), strict=True):
        torch.mul(made.compute(part), factors, out=into)
    return out


@constant
def _factors(lmax: int, normalization: str, dtype: torch.dtype) -> Tensor:
    """What makes orthonormal harmonics normalised as named, ``[(lmax + 1)^2]``."""
    rows = [_recursion.degree_factor(l, normalization) for l in range(lmax + 1) for _ in range(2 * l + 1)]
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


def _module() -> Any:
    """The package, ``None`` where it is not installed. Looked for once, at the first harmonics."""
    if "module" not in _state:
        _state["module"] = None
        try:
            import sphericart.torch  # pyright: ignore[reportMissingTypeStubs]

            _state["module"] = sphericart.torch
        except ModuleNotFoundError:
            pass  # it is an option
        except (ImportError, OSError) as error:
            warnings.warn(
                f"sphericart is installed but cannot be loaded ({error}); harmonics are computed by torch. Install the version "
                f"that fits this torch, or set {VARIABLE}=0",
                ErlangenWarning,
                stacklevel=2,
            )
    return _state["module"]
