"""Errors against the spread of the answers: no offset hides a violation."""

import math

import pytest
import torch

import erlangen as er
from erlangen.errors import UnknownNameError

TURNS = er.Symmetry("SO(2)", input="vectors", output="invariant")


def circle(n=64, dtype=torch.float64):
    a = 2 * math.pi * torch.arange(n, dtype=dtype) / n
    return torch.stack((a.cos(), a.sin()), 1)


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e9])
def test_error_over_the_spread_by_hand(offset):
    """f = offset + x_1 on the circle: Var = n / (2 (n - 1)), errors |cos(a + t) - cos a|, whatever the offset."""
    x = circle()
    a = 2 * math.pi * torch.arange(64, dtype=torch.float64) / 64
    t = 2 * math.pi * torch.arange(24, dtype=torch.float64)[:, None] / 24
    expected = ((a + t).cos() - a.cos()).abs() / math.sqrt(64 / 126)
    report = er.audit(lambda v: offset + v[:, :1], TURNS, x, elements=24, scale="spread")
    torch.testing.assert_close(report.errors, expected, rtol=0, atol=1e-12 + 1e-15 * abs(offset))
    assert report.settings["scale"] == "spread"
    one = er.equivariance_error(lambda v: offset + v[:, :1], TURNS, x, elements=24, reduce="none", scale="spread")
    assert torch.equal(one, report.errors)


def test_discover_sees_a_violation_behind_an_offset():
    """Total energies: -1e4 and a dependence on direction of one in a hundred million of it, but half of what varies."""
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def energy(v):
        return -1e4 + 1e-4 * (v.square().sum(1, keepdim=True) + v[:, :1])

    (found,) = er.discover(energy, [TURNS], x)
    assert not found.holds
    assert found.error > 0.1
    (hidden,) = er.discover(energy, [TURNS], x, scale="norm")
    assert hidden.holds  # the norm cannot tell: this is what the scale is for


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_rounding_of_large_answers_is_no_violation(dtype, offset):
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    (found,) = er.discover(lambda v: offset + v.square().sum(1, keepdim=True), [TURNS], x)
    assert found.holds


def test_where_there_is_no_spread_the_norm_stays():
    x = circle(8)
    image = er.Symmetry("SO(2)", input="image", output="image")
    pictures = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for model, symmetry, data in (
        (lambda v: v[:, :1], TURNS, x[:1]),
        (lambda v: 1 + 0 * v[:, :1], TURNS, x),
        (lambda v: (v[:, 0] > 0).long(), TURNS, x),
        (lambda v: v.square(), image, pictures),
    ):
        reports = [er.audit(model, symmetry, data, elements=7, scale=scale) for scale in ("spread", "norm")]
        assert torch.equal(reports[0].errors, reports[1].errors)
        assert reports[0].settings["scale"] == "norm"


def test_the_table_says_what_the_scale_is(capsys):
    for scale in ("spread", "norm"):
        report = er.audit(lambda v: v[:, :1], TURNS, circle(8), elements=7, scale=scale)
        report.show()
        named = [text.count("error over spread") for text in (capsys.readouterr().out, report.to_html())]
        # On the page among the facts, and below each of three pictures.
        assert named == ([1, 1 + 3] if scale == "spread" else [0, 0])


def test_unknown_scale():
    for call in (er.audit, er.equivariance_error):
        with pytest.raises(UnknownNameError, match="choose 'norm' or 'spread'"):
            call(lambda v: v[:, :1], TURNS, circle(8), scale="range")
    with pytest.raises(UnknownNameError, match="scale = 'range'"):
        er.discover(lambda v: v[:, :1], [TURNS], circle(8), scale="range")
