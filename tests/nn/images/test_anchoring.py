"""Polyphase anchoring: the law under all shifts bit by bit, closed forms, gradients, the layer contract, bad input."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.data import digits
from erlangen.errors import (
    DegenerateFrameError,
    DegenerateFrameWarning,
    DtypeError,
    ErlangenError,
    ErlangenWarning,
    NotFiniteError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import Shifts
from erlangen.measure import equivariance_error
from erlangen.nn import (
    Anchored,
    AnchoredConv2d,
    AnchoredPatchEmbed,
    PolyphaseAnchor,
    component_norms,
    polyphase,
    roll_samples,
)
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

DOUBLE = torch.float64
STRIDES = [(2, 2), (3, 3), (4, 4), (7, 7), (2, 3), (4, 7), (3, 1)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(*size: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*size, generator=rng(seed), dtype=dtype)


def rolled(x: Tensor, shift: Tensor) -> Tensor:
    """Each sample by its own shift, one at a time."""
    return torch.stack([sample.roll(tuple(s.tolist()), (1, 2)) for sample, s in zip(x, shift, strict=True)])


# --- components and rolls --------------------------------------------------------------------------------------------
def test_components_are_slices() -> None:
    x = maps(2, 3, 6, 8)
    parts = polyphase(x, (3, 2))
    assert parts.shape == (2, 3, 2, 3, 2, 4)
    for i in range(3):
        for j in range(2):
            assert torch.equal(parts[:, i, j], x[:, :, i::3, j::2])
    assert parts.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_norms_are_those_of_the_components(dtype: torch.dtype) -> None:
    parts = polyphase(maps(5, 3, 8, 12, dtype=dtype), (2, 4))
    scores = component_norms(parts).double()
    norms = parts.double().square().sum((3, 4, 5))
    ratio = scores / norms
    torch.testing.assert_close(
        ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-6 if dtype == torch.float32 else 1e-13, atol=0
    )


def test_norms_do_not_overflow() -> None:
    x = torch.tensor([6e4, 1.0, 5e4, 3.0]).view(1, 1, 1, 4)
    for scaled in (x.half(), x.bfloat16(), 1e33 * x, 1e303 * x.double(), 1e-36 * x):
        assert PolyphaseAnchor((1, 2)).locate(scaled.roll(1, 3)).tolist() == [[0, 1]]


def test_each_sample_is_rolled_by_its_own_shift() -> None:
    x, shift = maps(6, 3, 5, 7), torch.randint(-9, 9, (6, 2), generator=rng())
    assert torch.equal(roll_samples(x, shift), rolled(x, shift))
    assert torch.equal(torch.func.vmap(lambda a, s: roll_samples(a[None], s[None])[0])(x, shift), rolled(x, shift))


def test_the_gradient_is_the_inverse_roll() -> None:
    x, shift, w = maps(4, 2, 4, 6), torch.randint(0, 4, (4, 2), generator=rng()), maps(4, 2, 4, 6, seed=1)
    x.requires_grad_()
    (grad,) = torch.autograd.grad((roll_samples(x, shift) * w).sum(), x)
    assert torch.equal(grad, rolled(w, -shift))
    assert torch.autograd.gradcheck(lambda z: roll_samples(z, shift), x)
    assert torch.autograd.gradgradcheck(lambda z: roll_samples(z, shift).pow(3), x)


# --- the law of the anchor -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("stride", STRIDES, ids=str)
def test_anchors_of_shifted_maps_differ_by_multiples_of_the_stride(stride: tuple[int, int], dtype: torch.dtype) -> None:
    p, q = stride
    x = maps(150, 3, 4 * p, 2 * q, seed=p, dtype=dtype)
    shift = torch.randint(-40, 40, (150, 2), generator=rng(q))
    anchor = PolyphaseAnchor(stride)
    y, place = anchor.anchor(x)
    z, other = anchor.anchor(rolled(x, shift))
    step = shift + place - other  # z = roll(x, shift - other) = roll(y, shift - other + place)
    assert bool((step % torch.tensor(stride) == 0).all())
    assert torch.equal(z, rolled(y, step))
    assert torch.equal(anchor(y), y)
    assert not bool(anchor.locate(y).any())
    assert torch.equal(anchor.undo(y, place), x)
    best = polyphase(x, stride).square().sum((3, 4, 5)).flatten(1).argmax(1)
    assert torch.equal(place[:, 0] * q + place[:, 1], best)


def test_scores_do_not_depend_on_the_order_of_summation() -> None:
    """Bit by bit under every shift; a floating sum does."""
    x = maps(1, 3, 32, 32, dtype=torch.float32)
    orbit = torch.cat([x.roll((4 * i, 4 * j), (2, 3)) for i in range(8) for j in range(8)])
    scores = component_norms(polyphase(orbit, 4))
    assert torch.equal(scores, scores[:1].expand_as(scores))
    floating = polyphase(orbit, 4).square().sum((3, 4, 5))
    assert not torch.equal(floating, floating[:1].expand_as(floating))


def test_stride_one_and_constant_maps_stay_as_they_are() -> None:
    x = maps(2, 3, 5, 7)
    assert PolyphaseAnchor(1)(x) is x
    constant = torch.ones(2, 3, 4, 4)
    with pytest.warns(DegenerateFrameWarning, match=r"x\[0\] \(2 of 2 samples\)"):
        assert torch.equal(PolyphaseAnchor(2).eval()(constant), constant)
    assert torch.equal(PolyphaseAnchor(2)(constant), constant)  # in training nothing is said
    assert torch.equal(PolyphaseAnchor(2, on_tie="allow")(0 * constant), 0 * constant)


@pytest.mark.parametrize("index", [69, 124])
def test_real_digits_with_components_of_equal_norm(index: int) -> None:
    """Two test digits whose best components have the same sum of squared grey levels, for strides of four."""
    x = F.pad(digits("test").x[index : index + 1], (2, 2, 2, 2))
    scores = component_norms(polyphase(x, 4)).flatten().sort(descending=True).values
    assert float(scores[0] - scores[1]) <= 8 * torch.finfo(torch.float32).eps * float(scores[0])
    anchor = PolyphaseAnchor(4, on_tie="error")
    y, place = anchor.anchor(x)
    for shift in ((1, 0), (0, 1), (2, 3), (31, 30), (5, 18)):
        moved, other = anchor.anchor(x.roll(shift, (2, 3)))
        step = torch.tensor([shift]) + place - other
        assert bool((step % 4 == 0).all())
        assert torch.equal(moved, roll_samples(y, step))
        assert torch.equal(torch.compile(anchor, fullgraph=True, backend="eager")(x.roll(shift, (2, 3))), moved)
    torch.compiler.reset()


def line_drawings(count: int, size: int = 32) -> Tensor:
    """Two strokes of one grey level, around the torus."""
    generator = rng(1)
    out = torch.zeros(count, 1, size, size)
    for picture in out:
        for _ in range(2):
            start, direction = size * torch.rand(2, generator=generator), torch.randn(2, generator=generator)
            length = torch.arange(0, 3 + 12 * float(torch.rand(1, generator=generator)), 0.5)
            place = (start + length[:, None] * direction / direction.norm()).long() % size
            picture[0, place[:, 0], place[:, 1]] = 1
    return out


BINARY = {
    "digits": lambda: (F.pad(digits("test").x[:400], (2, 2, 2, 2)) > 0.5).float(),
    "drawings": lambda: line_drawings(400),
    "noise": lambda: (torch.rand(400, 1, 32, 32, generator=rng(2)) < 0.5).float(),
    "two colours": lambda: (torch.rand(400, 3, 32, 32, generator=rng(3)) < 0.03).float(),
    "signs": lambda: 2 * (torch.rand(400, 1, 32, 32, generator=rng(4)) < 0.1).float() - 1,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, DOUBLE])
@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("name", BINARY)
def test_binary_pictures_obey_the_law(name: str, stride: int, dtype: torch.dtype) -> None:
    """Every picture, hundreds of which have several components of the largest norm, and without a warning."""
    x = BINARY[name]().to(dtype)
    scores = component_norms(polyphase(x, stride)).flatten(1)
    several = (scores == scores.amax(1, keepdim=True)).sum(1) > 1
    assert int(several.sum()) > 20
    anchor = PolyphaseAnchor(stride, on_tie="error").eval()
    y, place = anchor.anchor(x)
    for seed in range(3):
        shift = torch.randint(0, 32, (len(x), 2), generator=rng(seed))
        moved, other = anchor.anchor(roll_samples(x, shift))
        step = shift + place - other
        assert bool((step % stride == 0).all())
        assert torch.equal(moved, roll_samples(y, step))
    traced = torch.func.vmap(lambda sample: anchor(sample[None])[0])(x[:20].contiguous())
    assert torch.equal(traced, y[:20])


@pytest.mark.parametrize("period", [1, 2, 4, 8])
def test_periodic_pictures_repeat_themselves_and_are_told(period: int) -> None:
    """Where a picture equals its own shift, the components that tie are equal, so the answer is right; a warning says so."""
    tile = (torch.rand(1, 1, period, 16, generator=rng(5)) < 0.4).float()
    x = tile.repeat(1, 1, 16 // period, 1)
    anchor = PolyphaseAnchor((4, 1)).eval()
    if period >= 4 and period % 4 == 0:
        anchor(x)  # a period of whole strides hides nothing
        return
    with pytest.warns(DegenerateFrameWarning, match="does not tell its polyphase components"):
        y = anchor(x)
    for shift in range(16):
        with pytest.warns(DegenerateFrameWarning):
            moved = anchor(x.roll(shift, 2))
        assert any(torch.equal(moved, y.roll(4 * k, 2)) for k in range(4))


def test_samples_are_independent() -> None:
    x, order = maps(8, 2, 6, 6), torch.randperm(8, generator=rng())
    assert torch.equal(PolyphaseAnchor(3)(x)[order], PolyphaseAnchor(3)(x[order]))


def test_another_selector() -> None:
    x = maps(5, 2, 6, 8)
    place = PolyphaseAnchor(2, selector=lambda parts: parts.amax((3, 4, 5))).locate(x)
    flat = x.amax(1).flatten(1).argmax(1)
    assert torch.equal(place, torch.stack([flat // 8 % 2, flat % 8 % 2], 1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_does_not_matter(layout: torch.memory_format) -> None:
    x = maps(3, 4, 6, 6)
    assert torch.equal(PolyphaseAnchor(2)(x.contiguous(memory_format=layout)), PolyphaseAnchor(2)(x))


# --- strided convolutions --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), ((5, 3), (2, 3)), (4, 4), ((2, 4), 2), (1, 3)])
def test_the_convolution_is_the_winning_component_of_the_dense_one(kernel, stride) -> None:
    layer = AnchoredConv2d(3, 5, kernel, stride, generator=rng()).double()
    x = maps(6, 3, 12, 12)
    (kh, kw), (p, q) = layer.kernel_size, layer.stride
    top, left = (kh - 1) // 2, (kw - 1) // 2
    dense = F.conv2d(F.pad(x, (left, kw - 1 - left, top, kh - 1 - top), mode="circular"), layer.weight, layer.bias)
    place = layer.anchor.locate(x)
    expected = torch.stack([dense[n, :, i::p, j::q] for n, (i, j) in enumerate(place.tolist())])
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-13)


def test_the_identity_kernel_samples_the_best_component() -> None:
    layer = AnchoredConv2d(2, 2, 3, 2, groups=2, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()[:, :, 1, 1] = 1
    x = maps(7, 2, 8, 10)
    parts = polyphase(x, 2).flatten(1, 2)
    best = parts.square().sum((2, 3, 4)).argmax(1)
    assert torch.equal(layer(x), parts[torch.arange(7), best])


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (DOUBLE, 1e-12)])
def test_pooled_convolutions_are_invariant(dtype: torch.dtype, tol: float) -> None:
    net = nn.Sequential(
        AnchoredConv2d(2, 6, 3, 2, generator=rng()), nn.GELU(), AnchoredPatchEmbed(6, 8, (3, 2)), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).to(dtype)  # fmt: skip
    group = Shifts(12, 16)
    symmetry = Symmetry(group, input="image", output="invariant")
    x = maps(3, 2, 12, 16, dtype=dtype)
    assert float(equivariance_error(net, symmetry, x, elements=group.elements(), reduce="max")) < tol
    check_layer(net, x, symmetry)
    plain = nn.Sequential(nn.Conv2d(2, 6, 3, 2, 1, padding_mode="circular"), nn.GELU(), *list(net)[3:]).to(dtype)
    assert float(equivariance_error(plain, symmetry, x, elements=group.elements(), reduce="max")) > 1e-3


def test_patches_begin_at_their_own_pixel_and_weights_are_those_of_conv2d() -> None:
    layer, plain = AnchoredPatchEmbed(1, 4, (2, 4)).double(), nn.Conv2d(1, 4, (2, 4), (2, 4)).double()
    layer.load_state_dict(plain.state_dict())
    x = maps(3, 1, 8, 8)
    torch.testing.assert_close(layer(x), plain(layer.anchor(x)), rtol=0, atol=1e-14)


def test_generators_decide_the_weights() -> None:
    first, second = (AnchoredConv2d(2, 3, 3, 2, generator=rng(5)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert float(first.weight.detach().abs().max()) <= 1 / math.sqrt(18)


# --- equivariant wholes ----------------------------------------------------------------------------------------------
class Blocks(nn.Module):
    """Mixes pixels in blocks of 2 x 4, each in the same way: commutes with shifts by (2, 4) alone."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        blocks = x.reshape(b, c, h // 2, 2, w // 4, 4).transpose(3, 4).flatten(-2)
        return torch.tanh(self.mix(blocks)).unflatten(-1, (2, 4)).transpose(3, 4).reshape(x.shape)


def wholes() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Conv2d(2, 3, (2, 4), (2, 4)), nn.Upsample(scale_factor=(2, 4)))
    return {"blocks": Anchored(Blocks(), (2, 4), size=(6, 8)), "dense": Anchored(dense, (2, 4), size=(6, 8))}


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", ["blocks", "dense"])
def test_anchored_modules_commute_with_every_shift(name: str, dtype: torch.dtype) -> None:
    layer, x = wholes()[name].to(dtype), maps(4, 2, 6, 8, dtype=dtype)
    check_layer(layer, x)
    group = Shifts(6, 8)
    error = equivariance_error(layer, None, x, elements=group.elements(), reduce="max")
    assert float(error) < (1e-5 if dtype == torch.float32 else 1e-12)
    assert float(equivariance_error(layer.module, layer.symmetry, x, elements=group.elements(), reduce="max")) > 1e-2


def test_gradients_through_an_anchored_module() -> None:
    layer, x = wholes()["blocks"].double(), maps(2, 1, 6, 8).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    shift = torch.tensor([[3, 5], [1, 2]])
    (grad,) = torch.autograd.grad(layer(x).pow(2).sum(), x)
    moved = rolled(x.detach(), shift).requires_grad_()
    (other,) = torch.autograd.grad(layer(moved).pow(2).sum(), moved)
    torch.testing.assert_close(other, rolled(grad, shift), rtol=0, atol=1e-13)


def test_the_anchor_alone_keeps_the_contract() -> None:
    """Under shifts by multiples of the stride the winner stays, so the answer is shifted as the input is."""
    x = maps(4, 3, 6, 8)
    ran = check_layer(
        PolyphaseAnchor((3, 2)), x, Symmetry(Shifts(6, 8), input="image", output="image"), skip=["symmetry"]
    )
    assert len(ran) == 9  # all others
    symmetry = Symmetry(Shifts(6, 8), input="image", output="image")
    elements = torch.cartesian_prod(torch.arange(0, 6, 3), torch.arange(0, 8, 2))
    assert float(equivariance_error(PolyphaseAnchor((3, 2)), symmetry, x, elements=elements, reduce="max")) == 0
    pooled = nn.Sequential(PolyphaseAnchor((3, 2)), nn.MaxPool2d((3, 2)), nn.AdaptiveMaxPool2d(1))
    invariant = Symmetry(Shifts(6, 8), input="image", output="invariant")
    assert check_layer(pooled, x, invariant)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: polyphase(torch.zeros(1, 1, 10, 8), 4), ShapeError, "H = 10 is no multiple of the stride 4.*8 or 12"),
        (lambda: polyphase(torch.zeros(1, 1, 8, 3), 4), ShapeError, "W = 3.*resize to 4.*not be equivariant"),
        (lambda: polyphase(torch.zeros(1, 8, 8), 4), ShapeError, r"\[B, C, H, W\]"),
        (lambda: PolyphaseAnchor((2, 2, 2)), ErlangenError, "3 entries"),
        (lambda: PolyphaseAnchor(0), ErlangenError, "stride = 0"),
        (lambda: PolyphaseAnchor((2, 1.5)), ErlangenError, r"stride\[1\] = 1\.5"),
        (lambda: PolyphaseAnchor(2, on_tie="first"), UnknownNameError, "warn.*error.*allow"),
        (lambda: PolyphaseAnchor(2)(torch.zeros(1, 1, 4, 4, dtype=torch.int64)), DtypeError, "int64"),
        (
            lambda: PolyphaseAnchor(2)(maps(3, 1, 4, 4).index_fill(0, torch.tensor(1), math.nan)),
            NotFiniteError,
            r"x\[1\]",
        ),
        (lambda: PolyphaseAnchor(2)(torch.full((1, 1, 4, 4), math.inf)), NotFiniteError, "NaN or Inf"),
        (lambda: PolyphaseAnchor(2, selector=lambda c: c.sum())(maps(1, 1, 4, 4)), ShapeError, "selector gave"),
        (
            lambda: PolyphaseAnchor(2, selector=lambda c: c.amax((3, 4, 5)) / 0)(maps(1, 1, 4, 4)),
            NotFiniteError,
            r"scores\[0\]",
        ),
        (lambda: PolyphaseAnchor(2, on_tie="error")(torch.ones(1, 1, 4, 4)), DegenerateFrameError, "does not tell"),
        (
            lambda: roll_samples(maps(2, 1, 4, 4), torch.tensor([[0.5, 1.0], [0, 0]])),
            DtypeError,
            "only integer circular",
        ),
        (lambda: roll_samples(maps(2, 1, 4, 4), torch.zeros(1, 2, dtype=torch.int64)), ShapeError, r"shifts \[B, 2\]"),
        (lambda: Anchored(nn.Conv2d(1, 1, 2, 2), 2)(maps(1, 1, 4, 4).float()), ShapeError, "nn.Upsample"),
        (lambda: Anchored(nn.Identity(), 3, size=(6, 8)), ShapeError, "W = 8"),
        (lambda: AnchoredConv2d(1, 1, 3, 2, lead=3), ErlangenError, "lead"),
        (lambda: AnchoredConv2d(1, 1, (3, 3, 3), 2), ErlangenError, "kernel_size"),
        (lambda: AnchoredConv2d(2, 1, 3, 2)(maps(1, 1, 4, 4).float()), ShapeError, r"\[B, 2, H, W\]"),
        (lambda: AnchoredConv2d(1, 1, 9, 2)(maps(1, 1, 2, 4).float()), ShapeError, "margins"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_zero_padding_inside_is_reported() -> None:
    inside = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))
    with pytest.warns(ErlangenWarning, match="^0 of Sequential pad"):
        Anchored(inside, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Anchored(nn.Sequential(inside[1], nn.Conv2d(1, 1, 2, 2), nn.Upsample(scale_factor=2)), 2)
