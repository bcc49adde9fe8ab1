"""Shift-equivariant transformers: invariance in both families, what breaks it, parts against closed forms."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import DegenerateFrameWarning, ErlangenError, NotFiniteError, ShapeError, UnknownNameError
from erlangen.groups import Shifts
from erlangen.measure import audit
from erlangen.nn import Anchored, component_norms, polyphase
from erlangen.symmetry import Symmetry
from erlangen.systems.images.shift_equivariant_vit import (
    EQUIVARIANT,
    Block,
    DepthwisePosition,
    GlobalAttention,
    Recipe,
    Twins,
    VisionTransformer,
    WindowAttention,
)
from erlangen.systems.images.shift_equivariant_vit import _measures as measures

DOUBLE = torch.float64
TOL = {torch.float32: 1e-5, DOUBLE: 1e-12}
SMALL = {
    "vit": lambda recipe: VisionTransformer(recipe, size=(8, 16), channels=2, classes=3, dim=12, depth=2, heads=2),
    "twins": lambda recipe: Twins(recipe, size=(16, 32), channels=2, classes=3, dims=(8, 12), heads=(2, 2)),
}
LOOSE, TABLE = Recipe(anchors=frozenset()), Recipe("table", anchors=frozenset())
SIZES = {"vit": (8, 16), "twins": (16, 32)}


def images(*size: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(name: str, recipe: Recipe = EQUIVARIANT, dtype: torch.dtype = DOUBLE) -> nn.Module:
    torch.manual_seed(0)
    return SMALL[name](recipe).to(dtype).eval()


def worst(model: nn.Module, x: Tensor) -> float:
    """Worst error of an exact audit over every circular shift."""
    group = Shifts(*x.shape[2:])
    symmetry = Symmetry(group, input="image", output="invariant")
    report = audit(model, symmetry, x, progress=False)
    assert report.certificate == "exact"
    assert len(report.orbit) == group.order
    return report.worst_error


LAYERS = {
    "VisionTransformer": lambda: (small("vit"), images(3, 2, *SIZES["vit"]), {}),
    "Twins": lambda: (small("twins"), images(3, 2, *SIZES["twins"]), {"skip": ["compile"]}),  # two stages: a minute
}


# --- invariance ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["vit", "twins"])
def test_binary_pictures_are_no_exception(name: str) -> None:
    """Pictures of two grey levels whose best components have equal norms, under shifts of every kind."""
    x = (torch.rand(200, 2, *SIZES[name], generator=torch.Generator().manual_seed(1)) < 0.05).to(DOUBLE)
    scores = component_norms(polyphase(x, 4)).flatten(1)
    x = x[(scores == scores.amax(1, keepdim=True)).sum(1) > 1][:24]
    assert len(x) == 24
    model = small(name)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        base = model(x)
        for shift in [(1, 0), (0, 1), (1, 1), (2, 3), (3, 7), (5, 2), (7, 11)]:
            moved = model(x.roll(shift, (2, 3)))
            assert float((moved - base).norm(dim=1).max() / base.norm(dim=1).min()) < 1e-10
        blank = torch.zeros(1, 2, *SIZES[name], dtype=DOUBLE)
    with pytest.warns(DegenerateFrameWarning, match="does not tell its polyphase components"):
        model(blank)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("name", SMALL)
def test_logits_are_invariant_to_every_shift(name: str, dtype: torch.dtype) -> None:
    assert worst(small(name, dtype=dtype), images(4, 2, *SIZES[name], dtype=dtype)) < TOL[dtype]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "recipe",
    [Recipe("table"), Recipe(padding="zeros"), Recipe(anchors=frozenset({"windows", "keys"}))],
    ids=["table", "zeros", "patches"],
)
def test_every_ingredient_is_needed(name: str, recipe: Recipe) -> None:
    model = small(name, recipe)
    assert model.symmetry is None
    assert worst(model, images(2, 2, *SIZES[name])) > 1e-3


def test_trained_weights_do_not_matter() -> None:
    model = small("twins")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * images(*parameter.shape, seed=1))
    assert worst(model, images(2, 2, 16, 32)) < 1e-12


# --- parts -----------------------------------------------------------------------------------------------------------
def reference(layer: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    return layer(tokens, tokens, tokens, need_weights=False)[0]


def paired(ours: nn.Module, dim: int, heads: int) -> nn.MultiheadAttention:
    """PyTorch's own attention with the same weights."""
    theirs = nn.MultiheadAttention(dim, heads, batch_first=True).double()
    with torch.no_grad():
        parts = (
            (ours.query.weight, ours.key_value.weight)
            if isinstance(ours, GlobalAttention)
            else (ours.query_key_value.weight,)
        )
        theirs.in_proj_weight.copy_(torch.cat(parts))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
        for name, parameter in ours.named_parameters():
            if name.startswith(("query", "key")) and name.endswith("bias"):
                parameter.zero_()
    return theirs


def test_global_attention_is_attention_of_all_pixels() -> None:
    ours, x = GlobalAttention(8, 2).double(), images(3, 4, 6, 8)
    theirs = paired(ours, 8, 2)
    torch.testing.assert_close(ours(x).flatten(1, 2), reference(theirs, x.flatten(1, 2)), rtol=0, atol=1e-13)


def test_window_attention_is_attention_in_each_window() -> None:
    ours, x = WindowAttention(8, 2, 2).double(), images(3, 4, 6, 8)
    theirs, y = paired(ours, 8, 2), ours(x)
    for i in range(0, 4, 2):
        for j in range(0, 6, 2):
            expected = reference(theirs, x[:, i : i + 2, j : j + 2].reshape(3, 4, 8))
            torch.testing.assert_close(y[:, i : i + 2, j : j + 2].reshape(3, 4, 8), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [lambda: WindowAttention(8, 2, 2), lambda: GlobalAttention(8, 2, 2)])
def test_blocks_are_anchored_as_they_are(make) -> None:
    """A drop-in: any block of windows or sub-sampled keys becomes equivariant on the grid of its input."""
    torch.manual_seed(0)
    layer, x = Anchored(Block(8, make()), 2, size=(4, 6)).double().eval(), images(2, 8, 4, 6)
    symmetry = layer.symmetry
    assert audit(layer, symmetry, x, progress=False).worst_error < 1e-12
    assert audit(layer.module, symmetry, x, progress=False).worst_error > 1e-3


def test_depthwise_positions_commute_with_shifts_unless_padded_by_zeros() -> None:
    torch.manual_seed(0)
    x = images(2, 3, 5, 6)
    for padding, exact in (("circular", True), ("zeros", False)):
        layer = DepthwisePosition(3, padding).double()
        gap = (layer(x.roll((2, 1), (2, 3))) - layer(x).roll((2, 1), (2, 3))).detach().abs().max()
        assert (float(gap) < 1e-13) is exact


def test_a_layer_norm_before_an_anchor_makes_ties() -> None:
    """Why there is none behind the embedding: after it all components have one norm."""
    x = nn.functional.layer_norm(images(20, 8, 8, 16, dtype=torch.float32), (16,)).permute(0, 3, 1, 2)
    spread = component_norms(polyphase(x, 2)).double().flatten(1)
    assert float(((spread.amax(1) - spread.amin(1)) / spread.amax(1)).max()) < 1e-4


# --- measures --------------------------------------------------------------------------------------------------------
class Corner(nn.Module):
    """Class 1 if the pixel in the corner is bright."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, 0, 0]
        return torch.stack([0.5 - bright, bright - 0.5], 1)


def test_orbit_scores_by_hand() -> None:
    x = torch.zeros(2, 1, 32, 32)
    x[0, 0, 0, 0] = 1
    scores = measures.orbit_scores(Corner(), x, torch.tensor([1, 0]))
    assert scores.right.shape == (1024, 2)
    assert scores.right[0].tolist() == [True, True]
    assert scores.right.sum(0).tolist() == [1, 1024]  # the bright pixel is in the corner once
    assert scores.worst == 50
    assert scores.change == pytest.approx(2)
    near = measures.orbit_scores(Corner(), x, torch.tensor([1, 0]), measures.within(1))
    assert near.right.sum(0).tolist() == [1, 9]
    assert near.right[0].all()
    # None of the 16 shifts drawn for it is the identity, so that the bright pixel leaves the corner under all of them.
    assert measures.changing(Corner(), x[:1], 16) == 100
    assert measures.changing(Corner(), x[1:], 16) == 0


def test_shifts_of_a_size() -> None:
    x = torch.zeros(400, 1, 32, 32)
    x[:, 0, 10, 10] = 1
    for least, most in ((1, 1), (4, 4), (1, 4), (16, 16)):
        places = (measures.shifted(x, least, most, 0)[:, 0] == 1).nonzero()[:, 1:]
        steps = (places - 10).abs()
        steps = torch.minimum(steps, 32 - steps).amax(1)
        assert len(steps) == 400
        assert set(steps.tolist()) == set(range(least, most + 1))
    assert len(measures.within(4)) == 81
    assert measures.within(4)[0].tolist() == [0, 0]


def test_affine_maps_keep_the_middle_and_are_those_of_the_seed() -> None:
    """A ramp ``r . z`` becomes the ramp ``r . A^-1 z``: its slopes tell A."""
    side = torch.arange(32.0) - 15.5
    ramps = torch.stack([side.expand(32, 32), side[:, None].expand(32, 32)])[:, None]
    both = torch.cat([measures.affine(ramp.expand(50, 1, 32, 32), 0) for ramp in ramps], 1)
    middle = both[:, :, 15:17, 15:17]
    assert float(middle.mean((2, 3)).abs().max()) < 1e-3
    slopes = torch.stack([middle[:, :, 0, 1] - middle[:, :, 0, 0], middle[:, :, 1, 0] - middle[:, :, 0, 0]], 2)
    volume = 1 / torch.linalg.det(slopes)
    assert 0.64 <= float(volume.min()) < 0.8
    assert 1.2 < float(volume.max()) <= 1.45
    s = torch.linalg.svdvals(slopes)
    assert float(s.min()) > 0.6
    assert float(s.max()) < 1.5


def test_two_grey_levels() -> None:
    x = torch.tensor([0.0, 0.4, 0.6, 1.2]).view(1, 1, 2, 2).repeat(2, 1, 1, 1) * torch.tensor([1.0, 2.0]).view(
        2, 1, 1, 1
    )
    assert measures.binary(x).flatten(1).tolist() == [[0, 0, 0, 1]] * 2


def test_it_is_told_when_the_model_warns() -> None:
    model = VisionTransformer(depth=1).eval()
    assert measures.warns(model, torch.zeros(1, 1, 32, 32))
    assert not measures.warns(model, images(1, 1, 32, 32).float())
    assert not measures.warns(VisionTransformer(depth=1, on_tie="allow").eval(), torch.zeros(1, 1, 32, 32))


def test_real_shifts_lose_what_leaves() -> None:
    x = images(50, 1, 12, 12).abs() + 1
    moved = measures.real_shifts(x, 3, 0)
    assert moved.shape == x.shape
    kept = (moved > 0).flatten(1).sum(1)
    assert int(kept.min()) == 81  # three rows and three columns gone
    assert all(set(m[m > 0].tolist()) <= set(s.flatten().tolist()) for m, s in zip(moved, x, strict=True))


def test_crops_of_the_whole_are_the_whole() -> None:
    x = images(3, 1, 32, 32).float()
    torch.testing.assert_close(measures.crops(x, 32, 0), x, rtol=0, atol=1e-5)
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    slope = measures.crops(ramp, 16, 0)[0, 0, 5, 3:29].diff()
    torch.testing.assert_close(slope, torch.full_like(slope, 0.5), rtol=0, atol=1e-4)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Recipe("learned"), UnknownNameError, "depthwise, table, none"),
        (lambda: Recipe(anchors=frozenset({"all"})), UnknownNameError, "patches, windows, keys"),
        (lambda: VisionTransformer(size=(30, 32)), ShapeError, "multiple of the stride 4"),
        (lambda: Twins(size=(24, 32)), ShapeError, "no multiple"),
        (lambda: VisionTransformer(dim=10, heads=4), ErlangenError, "heads = 4"),
        (lambda: VisionTransformer()(torch.zeros(1, 1, 30, 32)), ShapeError, "28 or 32"),
        (lambda: VisionTransformer()(torch.full((1, 1, 32, 32), math.nan)), NotFiniteError, r"x\[0\]"),
        (lambda: VisionTransformer()(torch.zeros(1, 3, 32, 32)), ShapeError, r"\[B, 1, H, W\]"),
        (lambda: VisionTransformer(LOOSE)(torch.zeros(1, 1, 30, 32)), ShapeError, "multiple of the stride 4"),
        (lambda: VisionTransformer(TABLE)(torch.zeros(1, 1, 28, 32)), ShapeError, "table of positions"),
        (lambda: VisionTransformer(depth=0), ErlangenError, "depth = 0"),
        (lambda: VisionTransformer(patch=0), ErlangenError, "stride = 0"),
        (lambda: WindowAttention(8, 2, 3)(torch.zeros(1, 4, 4, 8)), ShapeError, "window = 3"),
        (lambda: GlobalAttention(8, 2, 3)(torch.zeros(1, 4, 4, 8)), ShapeError, "reduce = 3"),
    ],
)
def test_bad_input(call, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
