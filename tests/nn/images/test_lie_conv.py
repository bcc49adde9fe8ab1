"""Convolutions over matrix groups with kernels in their polar charts: closed forms, quarter turns, weights, bad input."""

import pytest
import torch
from torch import Tensor, nn

from erlangen.errors import ErlangenError, GroupError, ModelError, ShapeError, UnknownNameError
from erlangen.groups import SL, SO, Cyclic, GLPlus, GroupSamples, PolarSampler
from erlangen.nn import FeatureField, LieConv, LieLift, LieProject
from erlangen.reps import Regular
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer

DOUBLE = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(group, count: int, seed: int = 0, **options) -> GroupSamples:
    return PolarSampler(group, **options).draw(count, generator=rng(seed))


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=rng(seed), dtype=DOUBLE)


def quarter_turns() -> GroupSamples:
    turns = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
    return GroupSamples.of(SO(2), torch.tensor([[[c, -s], [s, c]] for c, s in turns], dtype=DOUBLE))


def test_the_determinant_belongs_to_the_input() -> None:
    """Scaled input elements scale the weight; scaled output elements only change where the kernel is read."""
    layer = LieConv(GLPlus(2), 1, 1, mask="hard", generator=rng()).double()
    eye = torch.eye(2, dtype=DOUBLE)[None]
    one, two = GroupSamples.of(GLPlus(2), eye), GroupSamples.of(GLPlus(2), 2 * eye)
    middle = layer.grid[2:3, 2:3]
    layer.attach(two, two)
    both = layer.weight(middle)
    torch.testing.assert_close(both, layer.attach(one, one).weight(middle) / 4)  # the same kernel value k(0, I)


class _Flat(nn.Module):
    """Fields as channels, copies slow and elements fast, so that the library's field of the regular representation moves them."""

    def __init__(self, lift: LieLift, conv: LieConv) -> None:
        super().__init__()
        self.lift, self.conv = lift, conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.tanh(self.lift(x))).flatten(1, 2)


def test_contract_with_quarter_turns() -> None:
    turns = quarter_turns()
    layer = _Flat(
        LieLift(SO(2), 1, 2, hidden=(8,), generator=rng()).attach(turns),
        LieConv(SO(2), 2, 3, hidden=(8,), generator=rng()).attach(turns),
    )
    group = Cyclic(4)
    symmetry = Symmetry(group, input="image", output=FeatureField(Regular(group)))
    ran = check_layer(layer, images(2, 1, 7, 7).float(), symmetry, skip=["compile"])
    assert "symmetry" in ran
    check_layer(layer.double(), images(2, 1, 7, 7), symmetry, skip=["dtype", "compile", "vmap", "double_backward"])


def test_haar_weights_are_in_the_weight() -> None:
    samples = draw(SL(2), 3)
    plain, haar = (LieConv(SL(2), 1, 1, measure=m, reach=0.3, generator=rng()) for m in ("proposal", "haar"))
    ratio = haar.attach(samples).weight() / plain.attach(samples).weight()
    inside = ~torch.isnan(ratio)
    expected = samples.log_weight.exp().float()[:, None, None].expand_as(ratio[0, 0, 0])
    for n in range(3):
        torch.testing.assert_close(ratio[0, n, 0][inside[0, n, 0]], expected[inside[0, n, 0]], rtol=1e-4, atol=0)


def test_kernels_start_with_the_frequencies_of_a_sine_network_of_the_plane() -> None:
    """Uniform within 1/2 in z whatever H is, and within 1 over the number of coordinates in h."""
    for group, count in ((SL(2), 6), (GLPlus(2), 7), (SO(2), 4)):
        layer = LieConv(group, 1, 1, hidden=(400,), generator=rng())
        weight = next(layer.kernel.net.layers.parameters()).detach().abs()
        assert weight.shape == (400, count)
        assert 0.98 / 2 < float(weight[:, :2].max()) <= 1 / 2
        assert 0.98 / count < float(weight[:, 2:].max()) <= 1 / count


def test_projections() -> None:
    x = images(2, 3, 4, 5, 5)
    torch.testing.assert_close(LieProject("max")(x), x.amax((2, 3, 4)))
    torch.testing.assert_close(LieProject("mean")(x), x.mean((2, 3, 4)))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LieLift(SL(2), 1, 2, 4), ShapeError, "kernel_size = 4.*odd"),
        (lambda: LieLift(SL(2), 1, 2, 0), ErlangenError, "kernel_size = 0"),
        (lambda: LieLift(SL(2), 0, 2), ErlangenError, "in_channels = 0"),
        (lambda: LieLift(SL(3), 1, 2), GroupError, r"acts on R\^3"),
        (lambda: LieLift(SL(2), 1, 2, mask="soft"), UnknownNameError, "hard, sigmoid"),
        (lambda: LieConv(SL(2), 1, 2, measure="flat"), UnknownNameError, "proposal, haar"),
        (lambda: LieConv(SL(2), 1, 2, measure="haar"), GroupError, "infinite volume"),
        (lambda: LieConv(SL(2), 1, 2, reach=0.0), GroupError, "reach = 0"),
        (lambda: LieProject("sum"), UnknownNameError, "max, mean"),
        (lambda: LieProject()(torch.zeros(2, 3, 4, 4)), ShapeError, r"fields \[B, C, N, H, W\]"),
        (lambda: LieLift(SL(2), 1, 2)(torch.zeros(1, 1, 5, 5)), ModelError, "no samples.*attach"),
        (lambda: LieConv(SL(2), 1, 2)(torch.zeros(1, 1, 3, 5, 5)), ModelError, "no samples.*attach"),
        (lambda: LieConv(SL(2), 1, 2).weight(), ModelError, "attach"),
        (
            lambda: LieLift(SL(2), 1, 2).attach(draw(GLPlus(2), 3)),
            GroupError,
            r"of GL\+\(2\), but the layer is of SL\(2\)",
        ),
        (lambda: LieConv(GLPlus(2), 1, 2).attach(draw(SL(2), 3)), GroupError, r"of SL\(2\), but the layer is of GL"),
        (lambda: LieLift(SL(2), 1, 2).attach(draw(SL(2), 3))(torch.zeros(1, 2, 5, 5)), ShapeError, r"\[B, 1, H, W\]"),
        (
            lambda: LieConv(SL(2), 1, 2).attach(draw(SL(2), 3))(torch.zeros(1, 1, 2, 5, 5)),
            ShapeError,
            r"\[B, 1, 3, H, W\]",
        ),
    ],
)
def test_bad_options(build, error: type[ErlangenError], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
