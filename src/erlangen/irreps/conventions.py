"""Conventions of real harmonics: what they are here, how to convert, and how a layer records them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erlangen.errors import ConventionError, ShapeError
from erlangen.irreps._recursion import degree_factor
from erlangen.irreps.cache import constant
from erlangen.irreps.harmonics import NORMALIZATIONS
from erlangen.irreps.irreps import Irreps
from erlangen.irreps.wigner import wigner_D
from erlangen.numerics import full_precision

_CHOICES = {
    "polar_axis": ("y", "z"),
    "order": ("-l..l",),
    "normalization": NORMALIZATIONS,
    "phase": ("none", "condon-shortley"),
}


@dataclass(frozen=True)
class Conventions:
    """Which real harmonics a basis consists of.

    Attributes:
        polar_axis: "y" (here, e3nn, cuequivariance; degree 1 is (x, y, z)) or "z" (sphericart, most books; degree 1
            is (y, z, x)).
        order: order of the functions of one degree, "-l..l", sines before cosines.
        normalization: "integral", "component" or "norm", see `spherical_harmonics`.
        phase: "none", or "condon-shortley" for the additional sign ``(-1)^m``.

    Raises:
        ConventionError: a value is not one of these.
    """

    polar_axis: str = "y"
    order: str = "-l..l"
    normalization: str = "integral"
    phase: str = "none"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConventionError(f"{name} is {value!r}; known are: {', '.join(map(repr, choices))}")

    def to_tensor(self) -> Tensor:
        """The record as a uint8 tensor: JSON text, which torch.save, weights_only and safetensors all keep."""
        return torch.tensor(list(json.dumps(asdict(self), sort_keys=True).encode()), dtype=torch.uint8)

    @classmethod
    def from_tensor(cls, record: Tensor) -> Conventions:
        """The conventions of `to_tensor`.

        Raises:
            ConventionError: the tensor is no such record, or was written with a convention that is not known.
        """
        try:
            fields = json.loads(bytes(record.cpu().tolist()).decode())
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise ConventionError(f"the record of conventions cannot be read: {error}") from error


ERLANGEN = Conventions()
"""The conventions of this library's harmonics."""
Z_POLAR = Conventions(polar_axis="z")
"""Those of sphericart."""


def change_of_harmonics(l: int, source: Conventions, target: Conventions) -> Tensor:
    """The matrix M, float64 ``[2l + 1, 2l + 1]``, with ``Y_target = M Y_source`` for degree l at the same point.

    Orthogonal when the normalisations agree. Coefficients of one function, ``f = sum a_m Y_m``, change with the
    inverse transpose, which is the same matrix then.
    """
    return _change(l, source, target).clone()


def convert_harmonics(Y: Tensor, irreps: Irreps | str | int, source: Conventions, target: Conventions) -> Tensor:
    """Values of harmonics ``[..., dim]`` (not coefficients) from one convention to another.

    Args:
        Y: values in the source convention.
        irreps: their layout; an integer lmax stands for one copy of each degree 0..lmax.
        source, target: the conventions.

    Raises:
        ShapeError: the last dimension does not fit the irreps.
    """
    layout = Irreps.spherical_harmonics(irreps) if isinstance(irreps, int) else Irreps(irreps)
    layout.check_features(Y, "Y")
    parts = [Y[..., :0]]
    with full_precision(Y):
        for block, where in zip(layout, layout.slices(), strict=True):
            M = _change(block.ir.l, source, target).to(Y)
            parts.append((Y[..., where].unflatten(-1, (block.mul, block.ir.dim)) @ M.mT).flatten(-2))
    return torch.cat(parts, -1)


def to_z_polar(Y: Tensor, irreps: Irreps | str | int, *, condon_shortley: bool = False) -> Tensor:
    """Harmonics or features ``[..., dim]`` from this library's order to polar axis z, degree 1 = (y, z, x).

    The change is orthogonal, so it serves values and coefficients alike. ``(-1)^m`` with `condon_shortley`.
    """
    return convert_harmonics(Y, irreps, ERLANGEN, _z_polar(condon_shortley))


def from_z_polar(Y: Tensor, irreps: Irreps | str | int, *, condon_shortley: bool = False) -> Tensor:
    """The inverse of `to_z_polar`."""
    return convert_harmonics(Y, irreps, _z_polar(condon_shortley), ERLANGEN)


def _z_polar(condon_shortley: bool) -> Conventions:
    return Conventions(polar_axis="z", phase="condon-shortley" if condon_shortley else "none")


@constant
def _change(l: int, source: Conventions, target: Conventions) -> Tensor:
    return _from_reference(l, target) @ torch.linalg.inv(_from_reference(l, source))


def _from_reference(l: int, conventions: Conventions) -> Tensor:
    """From this library's orthonormal harmonics."""
    eye = torch.eye(3, dtype=torch.float64)
    # Y_z(x, y, z) = Y_y(y, z, x), and the cyclic permutation is a rotation.
    change = wigner_D(l, eye[[1, 2, 0]] if conventions.polar_axis == "z" else eye)
    sign = -1.0 if conventions.phase == "condon-shortley" else 1.0
    signs = sign ** torch.arange(-l, l + 1, dtype=torch.float64).abs()
    return degree_factor(l, conventions.normalization) * signs[:, None] * change


class RecordsConventions(nn.Module):
    """Base of layers whose parameters depend on a basis of harmonics: writes `conventions` into the state_dict.

    The record is one uint8 tensor under ``_extra_state``, so it survives ``torch.load(weights_only=True)`` and
    safetensors. When a state_dict was written under other conventions, `convert_from` is called after the
    parameters of this module have been loaded; unless a layer overrides it, loading is refused.
    """

    conventions: Conventions = ERLANGEN

    def get_extra_state(self) -> Tensor:
        """The record."""
        return self.conventions.to_tensor()

    def set_extra_state(self, state: Any) -> None:
        """Compare the record of a state_dict with `conventions`; convert or refuse.

        Raises:
            ConventionError: the record is damaged, or differs and the layer cannot convert.
        """
        if not isinstance(state, Tensor):
            raise ConventionError(f"the record of conventions is a {type(state).__name__}, but a tensor is needed")
        saved = Conventions.from_tensor(state)
        if saved != self.conventions:
            self.convert_from(saved)

    def convert_from(self, saved: Conventions) -> None:
        """Change parameters that were just loaded from the conventions `saved` to `conventions`, in place.

        Raises:
            ConventionError: always, unless a layer overrides it.
        """
        raise ConventionError(
            f"{type(self).__name__} was saved under {saved}, but uses {self.conventions}, and does not know how to "
            "convert its parameters; load it into a layer with the saved conventions, or override convert_from "
            "with erlangen.irreps.change_of_harmonics"
        )


def convert_input_weight(
    weight: Tensor, irreps: Irreps | str | int, source: Conventions, target: Conventions
) -> Tensor:
    """Weights ``[..., dim]`` that multiply harmonics: ``convert(W) @ Y_target == W @ Y_source``.

    What `RecordsConventions.convert_from` needs for a linear layer on harmonics; coefficients of a function on the
    sphere change the same way.

    Raises:
        ShapeError: the last dimension does not fit the irreps.
    """
    layout = Irreps.spherical_harmonics(irreps) if isinstance(irreps, int) else Irreps(irreps)
    if weight.ndim == 0 or weight.shape[-1] != layout.dim:
        raise ShapeError(f"weight has shape {tuple(weight.shape)}, but irreps {layout} need [..., {layout.dim}]")
    parts = [weight[..., :0]]
    with full_precision(weight):
        for block, where in zip(layout, layout.slices(), strict=True):
            inverse = _change(block.ir.l, target, source).to(weight)
            parts.append((weight[..., where].unflatten(-1, (block.mul, block.ir.dim)) @ inverse).flatten(-2))
    return torch.cat(parts, -1)
