"""Group convolutions: filters against torch.rot90 and closed forms, the contract, quarter turns and turns between."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.actions import Image
from erlangen.errors import (
    ConventionError,
    ErlangenError,
    GroupError,
    RepresentationError,
    ShapeError,
    UnknownNameError,
)
from erlangen.groups import SO, Cyclic, Dihedral, Group, Octahedral
from erlangen.measure import assert_equivariant, equivariance_error
from erlangen.nn.images.group_conv import GroupBatchNorm2d, GroupConv2d, GroupPool, LiftConv2d, pixel_subgroup
from erlangen.nn.images.planar import RINGS, PlanarConv2d, kernel_points, ring_harmonics
from erlangen.reps import Regular, TableRep, equivariant_basis
from erlangen.symmetry import Symmetry
from erlangen.testing import check_layer


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANGEN_CACHE", "off")
    torch.compiler.reset()  # torch compiles one function at most 8 times, and every layer here is another shape


def randomised(layer: PlanarConv2d, generator: torch.Generator) -> PlanarConv2d:
    """With a bias that is not zero."""
    assert isinstance(layer.bias, nn.Parameter)
    nn.init.normal_(layer.bias, generator=generator)
    return layer


def smooth_images(batch: int, channels: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """White noise blurred by a Gaussian of 1.5 pixels inside a disk with a soft edge, float64; and the disk."""
    t = torch.arange(-8, 9, dtype=torch.float64)
    blur = torch.exp(-(t**2) / (2 * 1.5**2))
    noise = torch.randn(batch * channels, 1, size + 16, size + 16, dtype=torch.float64, generator=generator)
    smooth = F.conv2d(noise, torch.outer(blur, blur)[None, None] / blur.sum() ** 2).reshape(batch, channels, size, size)
    radius = kernel_points(size).norm(dim=-1)
    return smooth * torch.sigmoid((size / 2 - 5 - radius) * 1.5), radius < size / 2 - 5


def disk_error(layer: nn.Module, symmetry: Symmetry, g: Tensor, x: Tensor, disk: Tensor) -> float:
    """Relative equivariance error of one element within the disk."""
    with torch.no_grad():
        expected = symmetry.output.act(g, layer(x))
        return float(((layer(symmetry.input.act(g, x)) - expected) * disk).norm() / (expected * disk).norm())


# --- the filter banks ------------------------------------------------------------------------------------------------
def turned(psi: Tensor, k: int, flip: bool) -> Tensor:
    """A filter ``[k, k]`` flipped left to right, then turned counterclockwise by k quarter turns."""
    return torch.rot90(psi.flip(-1) if flip else psi, k)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4])
def test_lifting_turns_filters_as_rot90_does(kernel_size: int, generator: torch.Generator) -> None:
    layer = LiftConv2d(Dihedral(4), 2, 3, kernel_size, generator=generator)
    kernel, psi = layer.expand()[0].detach(), layer.weight.detach().reshape(3, 2, kernel_size, kernel_size)
    for o in range(3):
        for k in range(8):
            for i in range(2):
                assert torch.equal(kernel[o * 8 + k, i], turned(psi[o, i], k % 4, k >= 4))


def test_group_filters_turn_and_move_their_channels(generator: torch.Generator) -> None:
    layer = GroupConv2d(Cyclic(4), 2, 3, 3, generator=generator)
    kernel, psi = layer.expand()[0].detach(), layer.weight.detach().reshape(3, 2, 4, 3, 3)
    for o in range(3):
        for h in range(4):
            for i in range(2):
                for source in range(4):
                    expected = torch.rot90(psi[o, i, (source - h) % 4], h)
                    assert torch.equal(kernel[o * 4 + h, i * 4 + source], expected)


@pytest.mark.parametrize("group", [Cyclic(4), Dihedral(2), Dihedral(4)], ids=repr)
def test_quarter_turns_are_bit_exact(group: Cyclic | Dihedral, generator: torch.Generator) -> None:
    """Sums of small integers have no rounding, so equality is that of every bit."""
    layer = GroupConv2d(group, 1, 2, 3, padding=1, generator=generator).eval()
    assert layer.bias is not None
    with torch.no_grad():
        for p in (layer.weight, layer.bias):
            p.copy_(torch.randint(-8, 9, p.shape, generator=generator))
        x = torch.randint(-8, 9, (2, int(group.order), 7, 7), generator=generator).float()
        for g in group.elements():
            assert torch.equal(layer(layer.symmetry.input.act(g, x)), layer.symmetry.output.act(g, layer(x)))


def test_the_layer_reaches_every_equivariant_kernel(generator: torch.Generator) -> None:
    """The kernels are the equivariant maps from (regular x pixels) to regular, which the solver of `reps` finds."""
    group, k = Dihedral(2), 3
    flat = torch.arange(k * k, dtype=torch.float64).reshape(k, k)
    moves = torch.stack([Image().on(group).act(g, flat).flatten().long() for g in group.elements()])
    pixels = TableRep(group, F.one_hot(moves, k * k).double(), "pixels")
    regular = Regular(group)
    Q = equivariant_basis(regular @ pixels >> regular).flatten(1)
    layer = GroupConv2d(group, 1, 1, k, bias=False).double()
    assert len(Q) == layer.weight.numel() == 4 * 9
    kernel = layer.expand()[0].detach().flatten()
    torch.testing.assert_close(Q.mT @ (Q @ kernel), kernel)


def test_harmonic_filters_turn_in_closed_form() -> None:
    """Turned by a, ``P cos(m t)`` is ``cos(m a) P cos(m t) + sin(m a) P sin(m t)``."""
    n, k = 8, 5
    layer = LiftConv2d(Cyclic(n), 1, 1, k, bias=False).double()
    harmonics = ring_harmonics(kernel_points(k), k)
    place = 0
    for m, values in harmonics.items():
        for ring in range(len(values)):
            with torch.no_grad():
                layer.weight.zero_()
                layer.weight[0, 0, 0, place + ring] = 1
            bank = layer.expand()[0].detach()[:, 0]
            for h in range(n):
                a = 2 * math.pi * h / n
                expected = math.cos(m * a) * values[ring].real + math.sin(m * a) * values[ring].imag
                torch.testing.assert_close(bank[h], (math.sqrt(2) if m else 1) * expected, rtol=1e-12, atol=1e-12)
        place += len(values) * (2 if m else 1)
    assert place == layer.weight.numel() == 15


def test_rings_carry_frequencies_up_to_their_band_limit() -> None:
    counts = {m: len(values) for m, values in ring_harmonics(kernel_points(7), 7).items()}
    assert counts == {0: 4, 1: 3, 2: 3, 3: 2, 4: 2, 5: 1, 6: 1}  # rings of radius 0, 1, 2, 3: m <= 2 r
    assert {m: len(v) for m, v in ring_harmonics(kernel_points(4), 4).items()} == {0: 2, 1: 2, 2: 1, 3: 1}
    for m, values in ring_harmonics(kernel_points(7), 7).items():
        norms = torch.linalg.vector_norm(values, dim=(-2, -1))
        torch.testing.assert_close(norms, torch.ones_like(norms))
        assert m == 0 or not bool(values[:, 3, 3].any())


# --- the contract ----------------------------------------------------------------------------------------------------
CASES = [
    (Cyclic(2), 2),
    (Cyclic(4), 3),
    (Dihedral(4), 3),
    (Cyclic(6), 3),
    (Cyclic(8), 5),
    (Dihedral(8), 4),
]


@pytest.mark.parametrize(("group", "kernel_size"), CASES, ids=repr)
def test_contract_of_convolutions(group: Cyclic | Dihedral, kernel_size: int, generator: torch.Generator) -> None:
    for layer, channels in (
        (LiftConv2d(group, 2, 3, kernel_size, padding=1, generator=generator), 2),
        (GroupConv2d(group, 2, 3, kernel_size, generator=generator), 2 * int(group.order)),
    ):
        randomised(layer, generator)
        assert layer.symmetry.group == pixel_subgroup(group)
        x = torch.randn(2, channels, 8, 8, generator=generator)
        check_layer(layer, x)
        check_layer(layer.double(), x.double(), skip=["dtype", "compile"])  # both are checked above


@pytest.mark.parametrize("group", [Cyclic(4), Dihedral(8)], ids=repr)
def test_contract_of_pooling_and_normalisation(group: Cyclic | Dihedral, generator: torch.Generator) -> None:
    x = torch.randn(3, 2 * int(group.order), 5, 5, generator=generator)
    check_layer(GroupPool(group), x)
    check_layer(GroupPool(group, "mean"), x)
    norm = GroupBatchNorm2d(group, 2)
    norm(3 * x + 1)  # statistics that are not those of a new layer
    check_layer(norm, x)


def test_pixel_subgroups() -> None:
    assert [int(pixel_subgroup(Cyclic(n)).order) for n in range(1, 9)] == [1, 2, 1, 4, 1, 2, 1, 4]
    assert [int(pixel_subgroup(Dihedral(n)).order) for n in (1, 2, 3, 4, 6, 8)] == [2, 4, 2, 8, 4, 8]


# --- turns between the pixels ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("group", [Cyclic(8), Dihedral(8)], ids=repr)
def test_turns_by_45_degrees_of_smooth_images(
    group: Cyclic | Dihedral, kernel_size: int, generator: torch.Generator
) -> None:
    order = int(group.order)
    lift = LiftConv2d(group, 2, 4, kernel_size, padding=kernel_size // 2, generator=generator).double()
    conv = GroupConv2d(group, 2, 4, kernel_size, padding=kernel_size // 2, generator=generator).double()
    for layer, channels in ((lift, 2), (conv, 2 * order)):
        x, disk = smooth_images(2, channels, 33, generator)
        whole = layer.symmetry_under(group)
        assert disk_error(layer, whole, torch.tensor(2), x, disk) < 1e-12  # a quarter turn
        eighth = disk_error(layer, whole, torch.tensor(1), x, disk)
        assert 1e-4 < eighth < 0.06
        # The same layer with filters of no symmetry at all, so that the bound above says something.
        plain = layer.export()
        nn.init.normal_(plain.weight, generator=generator)
        assert disk_error(plain, whole, torch.tensor(1), x, disk) > 0.5


def test_a_network_is_nearly_invariant_to_turns_by_45_degrees(generator: torch.Generator) -> None:
    group = Cyclic(8)
    net = nn.Sequential(
        LiftConv2d(group, 1, 8, 5, padding=2, generator=generator),
        nn.ReLU(),
        GroupConv2d(group, 8, 8, 5, padding=2, generator=generator),
        GroupPool(group),
    ).double()
    x, disk = smooth_images(4, 1, 33, generator)
    whole = Symmetry(group, input=Image("bicubic"), output=Image("bicubic"))
    assert disk_error(net, whole, torch.tensor(1), x, disk) < 0.08
    assert disk_error(net, whole, torch.tensor(6), x, disk) < 1e-12


# --- stride, padding, networks ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kernel_size", "padding", "stride", "size"), [(3, 1, 2, 9), (5, 2, 3, 10), (4, 1, 2, 8)])
def test_strides_that_fit_are_exact(
    kernel_size: int, padding: int, stride: int, size: int, generator: torch.Generator
) -> None:
    layer = LiftConv2d(Dihedral(4), 2, 2, kernel_size, padding=padding, stride=stride, generator=generator)
    x = torch.randn(2, 2, size, size, generator=generator)
    assert layer(x).shape[-1] == (size + 2 * padding - kernel_size) // stride + 1 > 1
    assert_equivariant(layer, x)


def test_a_stride_that_does_not_fit_is_refused_because_it_is_wrong(generator: torch.Generator) -> None:
    layer = LiftConv2d(Cyclic(4), 1, 2, 3, padding=1, stride=2, generator=generator)
    x = torch.randn(2, 1, 8, 8, generator=generator)
    assert float(equivariance_error(layer.export(), layer.symmetry, x)) > 0.1
    with pytest.raises(ShapeError, match=r"H = 8: .* stride = 2, H \+ 2 padding - kernel_size = 7 must be a multiple"):
        layer(x)
    with pytest.raises(ShapeError, match=r"x has W = 8"):
        layer(torch.zeros(1, 1, 9, 8))
    with pytest.raises(ShapeError, match=r"kernel_size = -2 must be .* not negative"):
        LiftConv2d(Cyclic(4), 1, 2, 5)(torch.zeros(1, 1, 3, 3))


def test_training_mode_and_whole_networks_are_exact(generator: torch.Generator) -> None:
    group = Dihedral(4)
    net = nn.Sequential(
        LiftConv2d(group, 1, 3, 3, generator=generator),
        GroupBatchNorm2d(group, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        GroupConv2d(group, 3, 4, 3, padding=1, generator=generator),
        GroupBatchNorm2d(group, 4),
        nn.ELU(),
        GroupPool(group),
        nn.AdaptiveAvgPool2d(1),
    ).double()
    x = torch.randn(4, 1, 11, 11, dtype=torch.float64, generator=generator)
    base = net(x)
    for g in group.elements():
        torch.testing.assert_close(net(Image().on(group).act(g, x)), base, rtol=1e-11, atol=1e-11)
    assert float(base.detach().std()) > 0.01


def test_a_training_step_lowers_the_loss(generator: torch.Generator) -> None:
    layer = GroupConv2d(Cyclic(8), 1, 1, 3, generator=generator)
    x, target = torch.randn(4, 8, 6, 6, generator=generator), torch.randn(4, 8, 4, 4, generator=generator)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses: list[float] = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses == sorted(losses, reverse=True)


# --- initial size, export, the kept kernel ---------------------------------------------------------------------------
@pytest.mark.parametrize("group", [Cyclic(4), Cyclic(8), Dihedral(8)], ids=repr)
def test_initial_outputs_are_as_large_as_inputs(group: Cyclic | Dihedral, generator: torch.Generator) -> None:
    order = int(group.order)
    for layer, channels in (
        (LiftConv2d(group, 16, 32, 5, generator=generator), 16),
        (GroupConv2d(group, 8, 16, 5, generator=generator), 8 * order),
    ):
        y = layer(torch.randn(2, channels, 16, 16, generator=generator)).detach()
        assert 0.8 < float(y.var()) < 1.25
        by_element = y.unflatten(1, (-1, order)).transpose(0, 2).flatten(1).var(1)
        assert float(by_element.max() / by_element.min()) < 1.3  # no orientation is louder than another


def test_batch_norm_shares_statistics_within_a_field(generator: torch.Generator) -> None:
    group = Cyclic(4)
    x = torch.randn(6, 8, 5, 5, generator=generator) * torch.arange(1.0, 9.0)[:, None, None]
    y = GroupBatchNorm2d(group, 2)(x).detach().unflatten(1, (2, 4))
    fields = x.unflatten(1, (2, 4))
    mean, std = (
        f(fields, dim=(0, 2, 3, 4), keepdim=True) for f in (torch.mean, lambda t, **k: t.std(correction=0, **k))
    )
    torch.testing.assert_close(y, (fields - mean) / (std.square() + 1e-5).sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_export_is_a_plain_convolution(dtype: torch.dtype, bias: bool, generator: torch.Generator) -> None:
    layer = GroupConv2d(Cyclic(8), 2, 3, 3, padding=1, stride=2, bias=bias, generator=generator).to(dtype).eval()
    if bias:
        randomised(layer, generator)
    x = torch.randn(2, 16, 9, 9, generator=generator, dtype=dtype)
    plain = layer.export()
    assert type(plain) is nn.Conv2d
    assert not plain.training
    assert plain.weight.requires_grad
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)
    kept = plain(x).detach()
    with torch.no_grad():
        layer.weight.zero_()
    torch.testing.assert_close(plain(x), kept, rtol=0, atol=0)


def test_the_kept_kernel_follows_the_weights(generator: torch.Generator) -> None:
    layer = GroupConv2d(Cyclic(8), 1, 1, 3, generator=generator).eval()
    x = torch.randn(2, 8, 5, 5, generator=generator)
    with torch.no_grad():
        first = layer(x)
        assert layer.kernel()[0] is layer.kernel()[0]
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), 2 * first)
        assert layer.bias is not None
        layer.bias.add_(1)
        torch.testing.assert_close(layer(x), 2 * first + 1)
        layer.weight.data.zero_()
        layer.eval()
        torch.testing.assert_close(layer(x), torch.ones_like(first))
        assert layer.double()(x.double()).dtype == torch.float64
        state = layer.state_dict()
        layer.load_state_dict({**state, **{name: torch.zeros_like(p) for name, p in layer.named_parameters()}})
        assert not bool(layer(x.double()).any())
    layer(x.double()).sum().backward()
    assert layer.weight.grad is not None


def test_parameters_without_an_address_are_not_kept(generator: torch.Generator) -> None:
    """An ensemble under vmap, and a layer made in inference mode."""
    layers = [GroupConv2d(Cyclic(4), 1, 1, 3, generator=generator).eval() for _ in range(3)]
    x = torch.randn(2, 4, 5, 5, generator=generator)
    parameters, buffers = torch.func.stack_module_state(layers)  # pyright: ignore[reportArgumentType]

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layers[0], (parameters, buffers), (x,))

    with torch.no_grad():
        together = torch.func.vmap(one)(parameters, buffers)
        torch.testing.assert_close(together, torch.stack([layer(x) for layer in layers]))
    with torch.inference_mode():
        assert LiftConv2d(Cyclic(4), 1, 1, 3).eval()(torch.zeros(1, 1, 5, 5)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize("group", [Dihedral(4), Cyclic(8)], ids=repr)
def test_layers_can_be_pickled(group: Cyclic | Dihedral, generator: torch.Generator) -> None:
    layer = GroupConv2d(group, 1, 2, 3, generator=generator)
    copy = pickle.loads(pickle.dumps(layer))
    assert copy.symmetry == layer.symmetry
    x = torch.randn(2, int(group.order), 5, 5, generator=generator)
    assert torch.equal(copy(x), layer(x))
    assert_equivariant(copy, x)


def test_parameters_of_another_group_or_basis_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = GroupConv2d(Cyclic(16), 1, 1, 3)
    with pytest.raises(ConventionError, match=r"saved with .*'group': 'Dihedral\(8\)'.*, but has .*'Cyclic\(16\)'"):
        layer.load_state_dict(GroupConv2d(Dihedral(8), 1, 1, 3).state_dict())
    state = layer.state_dict()
    with pytest.raises(ConventionError, match="cannot be read"):
        layer.load_state_dict({**state, "_extra_state": torch.tensor([1, 2, 3], dtype=torch.uint8)})
    monkeypatch.setitem(RINGS, "width", 0.6)
    with pytest.raises(ConventionError, match=r"'width': 0.5.* but has .*'width': 0.6"):
        layer.load_state_dict(state)


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("group", [SO(2), Octahedral(), SO(3)], ids=repr)
def test_other_groups_are_refused(group: Group) -> None:
    for make in (lambda: LiftConv2d(group, 1, 1, 3), lambda: GroupPool(group), lambda: GroupBatchNorm2d(group, 1)):  # type: ignore[arg-type]
        with pytest.raises(GroupError, match=r"need Cyclic\(n\) or Dihedral\(n\); for SO\(2\) use SteerableConv2d"):
            make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 0}, "kernel_size = 0: give an integer of at least 1"),
        ({"kernel_size": (3, 5)}, r"kernel_size = \(3, 5\): .*kernels are square, so one number"),
        ({"padding": -1}, "padding = -1: give an integer of at least 0"),
        ({"stride": 0}, "stride = 0: give an integer of at least 1"),
        ({"in_channels": 0}, "in_channels = 0: give an integer of at least 1"),
        ({"out_channels": 2.5}, "out_channels = 2.5: give an integer of at least 1"),
    ],
)
def test_sizes_that_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ErlangenError, match=message):
        GroupConv2d(Cyclic(4), **{"in_channels": 1, "out_channels": 1, "kernel_size": 3, **arguments})  # type: ignore[arg-type]


def test_inputs_that_are_refused() -> None:
    with pytest.raises(RepresentationError, match=r"Cyclic\(3\) is no subgroup of Cyclic\(8\)"):
        LiftConv2d(Cyclic(8), 1, 1, 3).symmetry_under(Cyclic(3))
    with pytest.raises(ShapeError, match=r"\[B, 16, H, W\] is needed: 2 fields x 8 elements of Cyclic\(8\)"):
        GroupConv2d(Cyclic(8), 2, 1, 3)(torch.zeros(1, 2, 5, 5))
    with pytest.raises(ShapeError, match=r"\[B, 2, H, W\] is needed: 2 scalar channels"):
        LiftConv2d(Cyclic(8), 2, 1, 3)(torch.zeros(2, 5, 5))
    with pytest.raises(ShapeError, match=r"\[B, fields \* 4, H, W\]"):
        GroupPool(Cyclic(4))(torch.zeros(1, 6, 5, 5))
    with pytest.raises(ShapeError, match=r"\[B, 8, H, W\] is needed: 2 fields x 4"):
        GroupBatchNorm2d(Cyclic(4), 2)(torch.zeros(1, 4, 5, 5))
    with pytest.raises(UnknownNameError, match="choose 'max' or 'mean'"):
        GroupPool(Cyclic(4), "sum")  # type: ignore[arg-type]
