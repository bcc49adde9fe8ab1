"""Conversions against scipy and sphericart; the record of conventions in a state_dict."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import sph_harm_y
from torch import Tensor, nn

from erlangen.errors import ConventionError, ShapeError
from erlangen.irreps import (
    ERLANGEN,
    Z_POLAR,
    Conventions,
    RecordsConventions,
    change_of_harmonics,
    convert_harmonics,
    convert_input_weight,
    from_z_polar,
    spherical_harmonics,
    to_z_polar,
)

F64 = torch.float64


def z_polar_by_scipy(lmax: int, x: Tensor, condon_shortley: bool) -> Tensor:
    a, b, c = (t.numpy() for t in x.unbind(-1))
    theta, phi = np.arctan2(np.hypot(a, b), c), np.arctan2(b, a)
    columns = []
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), theta, phi)  # holds the Condon-Shortley sign
            real = value.real if m == 0 else 2**0.5 * (value.real if m > 0 else value.imag)
            columns.append(real if condon_shortley else real * (-1) ** m)
    return torch.from_numpy(np.stack(columns, -1))


@pytest.mark.parametrize("condon_shortley", [False, True])
def test_z_polar_equals_scipy(condon_shortley: bool) -> None:
    x = torch.randn(100, 3, dtype=F64)
    Y = spherical_harmonics(8, x)
    converted = to_z_polar(Y, 8, condon_shortley=condon_shortley)
    torch.testing.assert_close(converted, z_polar_by_scipy(8, x, condon_shortley), rtol=0, atol=1e-12)
    torch.testing.assert_close(from_z_polar(converted, 8, condon_shortley=condon_shortley), Y, rtol=0, atol=1e-12)


def test_z_polar_equals_sphericart() -> None:
    sphericart = pytest.importorskip("sphericart.torch")
    x = torch.randn(100, 3, dtype=F64)
    expected = sphericart.SphericalHarmonics(8).compute(x)
    torch.testing.assert_close(to_z_polar(spherical_harmonics(8, x), 8), expected, rtol=0, atol=1e-12)


def test_degree_one_is_the_permutation_of_axes() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    assert to_z_polar(x, "1o").tolist() == [2.0, 3.0, 1.0]
    assert from_z_polar(x, "1o").tolist() == [3.0, 1.0, 2.0]


def test_features_with_multiplicity() -> None:
    x = torch.randn(5, 3 * 5 + 2, dtype=F64)
    M = change_of_harmonics(2, ERLANGEN, Z_POLAR)
    torch.testing.assert_close(M @ M.mT, torch.eye(5, dtype=F64), rtol=0, atol=1e-14)
    found = to_z_polar(x, "2x0e+3x2e")
    torch.testing.assert_close(found[:, :2], x[:, :2])
    torch.testing.assert_close(found[:, 2:].unflatten(-1, (3, 5)), x[:, 2:].unflatten(-1, (3, 5)) @ M.mT)


@pytest.mark.parametrize("normalization", ["integral", "component", "norm"])
def test_normalisations_convert(normalization: str) -> None:
    x = torch.randn(10, 3, dtype=F64)
    target = Conventions(normalization=normalization)
    found = convert_harmonics(spherical_harmonics(5, x), 5, ERLANGEN, target)
    torch.testing.assert_close(found, spherical_harmonics(5, x, normalization=normalization), rtol=0, atol=1e-12)


def test_weights_keep_what_they_compute() -> None:
    x = torch.randn(10, 3, dtype=F64)
    target = Conventions(polar_axis="z", normalization="component", phase="condon-shortley")
    Y = spherical_harmonics(4, x)
    W = torch.randn(7, 25, dtype=F64)
    converted = convert_input_weight(W, 4, ERLANGEN, target)
    torch.testing.assert_close(convert_harmonics(Y, 4, ERLANGEN, target) @ converted.mT, Y @ W.mT, rtol=0, atol=1e-11)


def test_record_round_trip_and_errors() -> None:
    for conventions in (ERLANGEN, Z_POLAR, Conventions(phase="condon-shortley", normalization="norm")):
        assert Conventions.from_tensor(conventions.to_tensor()) == conventions
    with pytest.raises(ConventionError, match="'x'"):
        Conventions(polar_axis="x")
    for bad in (b"no json", b'{"axis": 3}', b"[1]", b'{"polar_axis": "w"}'):
        with pytest.raises(ConventionError, match="cannot be read"):
            Conventions.from_tensor(torch.tensor(list(bad), dtype=torch.uint8))
    with pytest.raises(ShapeError, match="need"):
        to_z_polar(torch.zeros(5), 1)
    with pytest.raises(ShapeError, match="need"):
        convert_input_weight(torch.zeros(5), 1, ERLANGEN, Z_POLAR)


class Readout(RecordsConventions):
    """A linear layer on harmonics of degree 2 in given conventions that refuses other ones."""

    def __init__(self, conventions: Conventions = ERLANGEN) -> None:
        super().__init__()
        self.conventions = conventions
        self.weight = nn.Parameter(torch.randn(4, 9, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        Y = convert_harmonics(spherical_harmonics(2, x), 2, ERLANGEN, self.conventions)
        return Y @ self.weight.mT


class ConvertingReadout(Readout):
    def convert_from(self, saved: Conventions) -> None:
        with torch.no_grad():
            self.weight.copy_(convert_input_weight(self.weight, 2, saved, self.conventions))


def through_torch(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def through_safetensors(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    save_file(state, path / "layer.safetensors")
    return load_file(path / "layer.safetensors")


@pytest.mark.parametrize("transport", [through_torch, through_safetensors])
def test_a_layer_converts_refuses_or_loads(transport: object, tmp_path: Path) -> None:
    x = torch.randn(6, 3, dtype=F64)
    saved = Readout(Conventions(polar_axis="z", normalization="component"))
    expected = saved(x)
    state = transport(saved.state_dict(), tmp_path)  # type: ignore[operator]
    same = Readout(saved.conventions)
    same.load_state_dict(state)
    assert torch.equal(same(x), expected)
    converting = nn.Sequential(ConvertingReadout())
    converting.load_state_dict({f"0.{key}": value for key, value in state.items()})
    torch.testing.assert_close(converting(x), expected, rtol=0, atol=1e-12)
    with pytest.raises(ConventionError, match=r"Readout was saved under .*polar_axis='z'"):
        Readout().load_state_dict(state)


def test_a_state_without_a_readable_record_is_refused() -> None:
    layer = Readout()
    state = layer.state_dict()
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match="_extra_state"):
        layer.load_state_dict(state)
    with pytest.raises(ConventionError, match="dict"):
        layer.load_state_dict({**layer.state_dict(), "_extra_state": {"polar_axis": "y"}})
