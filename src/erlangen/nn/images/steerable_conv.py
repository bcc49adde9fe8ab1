"""SO(2)-steerable convolutions of images (Weiler and Cesa 2019, General E(2)-Equivariant Steerable CNNs).

A feature map is a list of fields, each of one frequency k: under the rotation by an angle t its vectors turn by ``k t``.
Frequency 0 is a scalar (1 channel), the others are vectors (2 channels); a vector field as in `erlangen.actions.Field` has
frequency 1. A list is given as ``{frequency: multiplicity}``; channels lie in ascending order of the frequency, field by
field.

>>> hidden = {0: 8, 1: 4, 2: 2}
>>> net = torch.nn.Sequential(
...     SteerableConv2d({0: 3}, hidden, 5, padding=2),
...     NormNonlinearity2d(hidden),
...     SteerableConv2d(hidden, {1: 1}, 5, padding=2),
... )
>>> net(torch.zeros(2, 3, 29, 29)).shape
torch.Size([2, 2, 29, 29])
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from erlangen.actions.image import Interpolation
from erlangen.errors import ErlangenError, RepresentationError, ShapeError, is_whole
from erlangen.groups import Cyclic, Group
from erlangen.nn.images.planar import (
    RINGS,
    PlanarConv2d,
    field_symmetry,
    kernel_points,
    ring_harmonics,
    unit_gain,
)
from erlangen.numerics import safe_norm
from erlangen.reps import Frequency, Rep, Scalar, Sum
from erlangen.symmetry import Symmetry

Fields = Mapping[int, int]
"""Multiplicities by frequency, for example ``{0: 8, 1: 4}``."""


# --- lists of fields -------------------------------------------------------------------------------------------------
def check_fields(name: str, fields: Fields) -> dict[int, int]:
    """The fields in ascending order of the frequency, without those of multiplicity 0.

    Raises:
        RepresentationError: no mapping of integers of at least 0, or nothing in it.
    """
    ok = isinstance(fields, Mapping) and all(is_whole(n, 0) for pair in fields.items() for n in pair)
    if not ok or not any(fields.values()):
        raise RepresentationError(
            f"{name} = {fields!r}: give multiplicities by frequency, for example {{0: 8, 1: 4}} for 8 scalars and 4 vectors"
        )
    return {k: fields[k] for k in sorted(fields) if fields[k]}


def field_rep(group: Group, fields: Fields) -> Rep:
    """The representation on the channels of a list of fields, of ``SO(2)`` or of ``Cyclic(n)`` in it."""
    return Sum([(n, Frequency(group, k) if k else Scalar(group)) for k, n in sorted(fields.items())])


def _width(frequency: int) -> int:
    return 2 if frequency else 1


def _channels(fields: Fields) -> int:
    return sum(n * _width(k) for k, n in fields.items())


def _described(fields: Fields) -> str:
    return " + ".join(f"{n} of frequency {k}" for k, n in fields.items())


# --- the convolution -------------------------------------------------------------------------------------------------
class SteerableConv2d(PlanarConv2d):
    """Convolution ``[B, in_size, H, W]`` to ``[B, out_size, H', W']`` with ``K(g z) = rho_out(g) K(z) rho_in(g)^-1``.

    Kernels between the frequencies m and n are, on every ring, the harmonics ``exp(i (n - m) t)`` and ``exp(i (n + m) t)``
    times constant 2 x 2 matrices: 4 per ring where both are vectors, 2 where one is, 1 where none is (Weiler and Cesa
    2019, table 8), as far as the band limit of the ring reaches. Rings, band limit and its reason:
    `erlangen.nn.images.planar.ring_harmonics`.

    The kernel is steerable in the plane and sampled on pixels. So equivariance is exact for quarter turns of square images,
    which the declared `symmetry` states (``Cyclic(4)``), and approximate between: a turn by 45 degrees of fields that vary
    over a few pixels (white noise blurred by a Gaussian of 1.5 pixels) costs 1 to 4 % of the output's norm per layer,
    resampling included. ``symmetry_under(SO(2))`` gives the statement to measure.

    Coefficients start as Gaussians for which the output has the variance of the input, before padding.

    Args:
        fields_in: multiplicities by frequency of the input, for example ``{0: 3}`` for a colour image.
        fields_out: the same of the output.
        kernel_size, padding, stride: as for `erlangen.nn.images.group_conv.LiftConv2d`.
        bias: whether fields of frequency 0 have a bias; others cannot.
        generator: source of the initial coefficients; torch's global stream without it.

    Raises:
        RepresentationError: a list of fields is malformed, or the kernel is too small to hold any harmonic that an output
            field needs.
        ErlangenError: a size, the padding or the stride is no integer in its range.
    """

    def __init__(
        self,
        fields_in: Fields,
        fields_out: Fields,
        kernel_size: int,
        *,
        padding: int = 0,
        stride: int = 1,
        bias: bool = True,
        generator: Generator | None = None,
    ) -> None:
        fields_in, fields_out = check_fields("fields_in", fields_in), check_fields("fields_out", fields_out)
        super().__init__(_channels(fields_in), _channels(fields_out), kernel_size, padding, stride)
        self.fields_in, self.fields_out = fields_in, fields_out
        harmonics = ring_harmonics(kernel_points(kernel_size), kernel_size)
        self._bases = {(n, m): steerable_basis(n, m, harmonics) for n, m in itertools.product(fields_out, fields_in)}
        self.weight = nn.Parameter(self._initial(generator))
        self.bias = nn.Parameter(torch.zeros(fields_out[0])) if bias and 0 in fields_out else None
        self.symmetry = self.symmetry_under(Cyclic(4))

    def _shape(self, n: int, m: int) -> tuple[int, int, int]:
        """Shape of the coefficients of one pair of frequencies: basis, fields out, fields in."""
        return (len(self._bases[n, m]), self.fields_out[n], self.fields_in[m])

    def _initial(self, generator: Generator | None) -> Tensor:
        parts: list[Tensor] = []
        for n in self.fields_out:
            # Each basis kernel has norm 1 per output channel, so terms count equally.
            terms = sum(self._shape(n, m)[0] * count for m, count in self.fields_in.items())
            if terms == 0:
                raise RepresentationError(
                    f"no kernel of size {self.kernel_size} but zero maps {_described(self.fields_in)} to frequency {n}; "
                    "enlarge kernel_size, or add an input frequency closer to it"
                )
            for m in self.fields_in:
                parts.append(unit_gain(terms) * torch.randn(self._shape(n, m), generator=generator).flatten())
        return torch.cat(parts)

    def expand(self) -> tuple[Tensor, Tensor | None]:
        """Kernel ``[out_size, in_size, k, k]`` and bias ``[out_size]``, zero where no scalar is."""
        pairs = list(itertools.product(self.fields_out, self.fields_in))
        parts = self.weight.split([math.prod(self._shape(n, m)) for n, m in pairs])
        blocks: dict[tuple[int, int], Tensor] = {}
        for (n, m), part in zip(pairs, parts, strict=True):
            coefficients = part.unflatten(0, self._shape(n, m))
            maps = torch.einsum("pab,pijyx->aibjyx", coefficients, self._bases[n, m].to(self.weight))
            blocks[n, m] = maps.flatten(2, 3).flatten(0, 1)
        kernel = torch.cat([torch.cat([blocks[n, m] for m in self.fields_in], 1) for n in self.fields_out])
        if self.bias is None:
            return kernel, None
        # Frequency 0 comes first in the channels.
        return kernel, nn.functional.pad(self.bias, (0, self.out_size - self.bias.shape[0]))

    def symmetry_under(self, group: Group, interpolation: Interpolation = "bicubic") -> Symmetry:
        """The layer's symmetry under ``SO(2)`` or ``Cyclic(n)``.

        Args:
            group: the group; elements other than quarter turns resample both sides.
            interpolation: how they read between pixels.
        """
        rep_in, rep_out = field_rep(group, self.fields_in), field_rep(group, self.fields_out)
        return field_symmetry(group, rep_in, rep_out, interpolation)

    @property
    def conventions(self) -> dict[str, str | float]:
        """The fields, and the basis of the kernels."""
        return {"fields": f"{self.fields_in} -> {self.fields_out}", **RINGS}

    @property
    def channels(self) -> str:
        """The list of fields."""
        return _described(self.fields_in)

    @override
    def extra_repr(self) -> str:
        return f"{self.fields_in} -> {self.fields_out}, {super().extra_repr()}"


def steerable_basis(n: int, m: int, harmonics: Mapping[int, Tensor]) -> Tensor:
    """All kernels of one pair of frequencies on the rings of `ring_harmonics`.

    Both sides of the constraint are solved by ``K(t) = R(n t) K(0) R(-m t)`` for any K(0): on the identity and the quarter
    turn that is ``R((n - m) t) K(0)``, on the two reflections ``R((n + m) t) K(0)``.

    Args:
        n: frequency of the output, m: of the input.
        harmonics: complex128 ``[rings, k, k]`` by frequency.

    Returns:
        float64 ``[kernels, width_out, width_in, k, k]`` with widths 1 (frequency 0) or 2, each kernel of norm 1 per output
        channel; ``kernels = 0`` where no ring carries the frequencies.
    """
    size = next(iter(harmonics.values())).shape[-1]
    kernels: list[Tensor] = []
    for frequency, flipped in ((n - m, False), (n + m, True)):
        if abs(frequency) not in harmonics or (flipped and not (n and m)):
            continue
        values = harmonics[abs(frequency)]
        values = values.conj() if frequency < 0 else values
        # i times a harmonic is the harmonic of K(0) turned by 90 degrees.
        for c, s in ((values.real, values.imag), (-values.imag, values.real)):
            if flipped:
                rows = [[c, s], [s, -c]]
            elif n and m:
                rows = [[c, -s], [s, c]]
            elif n:
                rows = [[c], [s]]
            else:
                rows = [[c, -s]] if m else [[c]]
            kernels.append(torch.stack([torch.stack(row, 1) for row in rows], 1))
            if not (n or m):
                break
    if not kernels:
        return torch.zeros(0, _width(n), _width(m), size, size, dtype=torch.float64)
    basis = torch.cat(kernels)
    return basis * math.sqrt(_width(n)) / torch.linalg.vector_norm(basis, dim=(1, 2, 3, 4), keepdim=True)


# --- non-linearities -------------------------------------------------------------------------------------------------
class NormNonlinearity2d(nn.Module):
    """``ReLU(|v| + b) v / |v|`` on every field, with one b per field; a scalar field gives ``ReLU(v + b)``.

    Shape ``[B, C, H, W]`` is kept. Turning a vector keeps its norm, so this commutes with every rotation of the fields, and
    as it works pixel by pixel, exactly. ``|v|`` is ``sqrt(v^2 + eps^2)``, which is smooth at 0.

    Args:
        fields: multiplicities by frequency.
        eps: smoothing length, in the units of the vectors.

    Raises:
        RepresentationError: the list of fields is malformed.
        ErlangenError: `eps` is not positive.
    """

    def __init__(self, fields: Fields, eps: float = 1e-3) -> None:
        super().__init__()
        self.fields, self.eps = check_fields("fields", fields), eps
        if not eps > 0:
            raise ErlangenError(f"eps = {eps}: give a positive length; at eps = 0 the direction jumps at zero vectors")
        self.bias = nn.Parameter(torch.zeros(sum(self.fields.values())))
        rep = field_rep(Cyclic(4), self.fields)
        self.symmetry = field_symmetry(Cyclic(4), rep, rep, "bicubic")

    def forward(self, x: Tensor) -> Tensor:
        """Scale every vector; `ShapeError` when the channels are not those of the fields."""
        scalars, vectors = _split(x, self.fields)
        bias = self.bias[:, None, None]
        norm = safe_norm(vectors, dim=2, eps=self.eps)
        scale = torch.relu(norm + bias[scalars.shape[1] :]) / norm
        return _join(torch.relu(scalars + bias[: scalars.shape[1]]), vectors, scale)

    @override
    def extra_repr(self) -> str:
        return f"{self.fields}, eps={self.eps}"


class GatedNonlinearity2d(nn.Module):
    """Vectors times the sigmoid of one extra scalar each; the other scalars through ReLU (Weiler and Cesa 2019, 2.6).

    Takes ``[B, C', H, W]`` with the fields `fields_in`: those of the output and, as the last of its scalars, one gate per
    vector. Gives ``[B, C, H, W]``.

    Args:
        fields: multiplicities by frequency of the output.

    Raises:
        RepresentationError: the list of fields is malformed.
    """

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self.fields = check_fields("fields", fields)
        gates = sum(n for k, n in self.fields.items() if k)
        self.fields_in = check_fields("fields", {**self.fields, 0: self.fields.get(0, 0) + gates})
        group = Cyclic(4)
        rep_in, rep_out = field_rep(group, self.fields_in), field_rep(group, self.fields)
        self.symmetry = field_symmetry(group, rep_in, rep_out, "bicubic")

    def forward(self, x: Tensor) -> Tensor:
        """Open and close every vector; `ShapeError` when the channels are not those of `fields_in`."""
        scalars, vectors = _split(x, self.fields_in)
        plain, gates = scalars.tensor_split([scalars.shape[1] - vectors.shape[1]], dim=1)
        return _join(torch.relu(plain), vectors, torch.sigmoid(gates))

    @override
    def extra_repr(self) -> str:
        return f"{self.fields_in} -> {self.fields}"


def _split(x: Tensor, fields: Fields) -> tuple[Tensor, Tensor]:
    """Scalars ``[B, n, H, W]`` and vectors ``[B, m, 2, H, W]`` of feature maps."""
    size = _channels(fields)
    if x.ndim != 4 or x.shape[1] != size:
        raise ShapeError(f"x has shape {tuple(x.shape)}, but [B, {size}, H, W] is needed: {_described(fields)}")
    scalars = fields.get(0, 0)
    return x[:, :scalars], x[:, scalars:].unflatten(1, ((size - scalars) // 2, 2))


def _join(scalars: Tensor, vectors: Tensor, scale: Tensor) -> Tensor:
    """Feature maps of scalars and of vectors times numbers ``[B, m, H, W]``."""
    return torch.cat([scalars, (vectors * scale.unsqueeze(2)).flatten(1, 2)], 1)
