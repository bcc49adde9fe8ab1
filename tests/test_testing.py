"""check_layer catches what it says it catches: each broken layer fails its own check, a good one none."""

import pytest
import torch
from torch import nn

import erlangen as er
from erlangen.errors import ErlangenError, SymmetryError
from erlangen.testing import LayerCheckError, check_layer

SYM = er.Symmetry("SO(3)", input="vectors", output="vectors")


class Good(nn.Module):
    """Vector channels ``[B, C, 3]`` mixed over C: equivariant under every linear group."""

    symmetry = SYM

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        return self.weight.to(x) @ x


class MixesBatch(Good):
    def forward(self, x):
        return super().forward(x) + (x.mean(0) if len(x) else 0)


class SingleOnly(Good):
    def forward(self, x):
        return super().forward(x.float())


class NoGradient(Good):
    def forward(self, x):
        return super().forward(x.detach()).detach().requires_grad_()


class InfiniteGradient(Good):
    def forward(self, x):
        return super().forward(x) * (x * 0).norm(dim=(-1, -2), keepdim=True).sqrt()


class NoEmpty(Good):
    def forward(self, x):
        return super().forward(x) * (x.abs().max() > -1)


class NoVmap(Good):
    def forward(self, x):
        return super().forward(x) if float(x.sum()) != 1e9 else x


class Hidden(Good):
    """Keeps a weight outside of the state dict."""

    def __init__(self):
        super().__init__()
        self.weight.requires_grad_()
        self.register_buffer("lost", torch.zeros(1), persistent=False)

    def __deepcopy__(self, memo):
        other = Hidden()
        other.load_state_dict(self.state_dict())
        other.lost = self.lost + 1
        return other

    def forward(self, x):
        return super().forward(x) * (1 + self.lost.to(x))


class Skewed(Good):
    def forward(self, x):
        return super().forward(x) * torch.tensor([1.0, 1.0, 1.1]).to(x)


X = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))


def test_a_good_layer_passes_every_check():
    layer = Good().train()
    assert len(check_layer(layer, X)) == 10
    assert layer.training


@pytest.mark.parametrize(
    ("layer", "failing"),
    [
        (MixesBatch, "shapes"),
        (SingleOnly, "dtype"),
        (NoGradient, "gradient"),
        (InfiniteGradient, "gradient"),
        (InfiniteGradient, "double_backward"),
        (NoEmpty, "empty_batch"),
        (NoVmap, "vmap"),
        (NoVmap, "compile"),
        (Hidden, "state_dict"),
        (Skewed, "symmetry"),
    ],
)
def test_each_defect_is_found(layer, failing):
    with pytest.raises(LayerCheckError) as caught:
        check_layer(layer(), X)
    assert f"\n  {failing}: " in str(caught.value)


def test_skip_and_bad_input():
    check_layer(Skewed(), X, skip=["symmetry"])
    with pytest.raises(ErlangenError, match="known checks are shapes"):
        check_layer(Good(), X, skip=["speed"])
    with pytest.raises(SymmetryError, match="declares no symmetry"):
        check_layer(nn.Linear(3, 3), X)
    with pytest.raises(LayerCheckError, match="at least 2"):
        check_layer(Good(), X[:1])
