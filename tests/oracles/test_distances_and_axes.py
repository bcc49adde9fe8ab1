"""Two roads to invariant coordinates: eigenvectors of the n x n matrix of distances, and of the d x d covariance."""

import pytest
import torch

import erlangen as er
from erlangen.systems.points.tinvnn import InitialRepresentation, TinvNN, classical_mds


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_mds_of_distances_is_the_principal_axes_up_to_signs(d, generator):
    x = torch.randn(20, 12, d, generator=generator, dtype=torch.float64) * torch.linspace(1, 2, d) + 3
    mds = classical_mds((x[:, :, None] - x[:, None]).norm(dim=-1), d)
    axes = InitialRepresentation(d)(x).coordinates
    signs = (mds.coordinates * axes).sum(1, keepdim=True).sign()
    torch.testing.assert_close(mds.coordinates * signs, axes, rtol=0, atol=1e-8)
    centred = x - x.mean(1, keepdim=True)
    torch.testing.assert_close(mds.values[:, :d], torch.linalg.svdvals(centred).square(), rtol=1e-9, atol=1e-9)
    assert float(mds.strain.max()) < 1e-12


@pytest.mark.parametrize(("group", "invariances"), [("E(3)", "trf"), ("SE(3)", "tr"), ("O(3)", "rf"), ("SO(3)", "r")])
def test_average_over_signs_is_frame_averaging(group, invariances, generator):
    names = {"t": "translation", "r": "rotation", "f": "reflection"}
    x = torch.randn(6, 9, 3, generator=generator, dtype=torch.float64)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    reverse = torch.nn.Sequential(_Reversed(), net)  # principal axes ascend in one, descend in the other
    frames = er.symmetrize(reverse, er.Symmetry(group, input="points", output="invariant"), how="frames")
    chosen = {names[letter] for letter in invariances}
    torch.testing.assert_close(TinvNN(net, 3, chosen, sign="average")(x), frames(x), rtol=0, atol=1e-12)


class _Reversed(torch.nn.Module):
    """Columns in the reverse order; for rotations of space, with a sign that keeps the determinant."""

    def forward(self, x):
        return x.flip(-1)
