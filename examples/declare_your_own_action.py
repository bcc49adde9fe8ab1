"""Declare an action that the library does not have: a ring of microphones that is turned.

Eight microphones stand in a circle. Turning the ring by 45 degrees hands every channel to the next microphone: the group
is Cyclic(8), and it rolls the channels. Change `turn_ring` to what your group does to your data; it gets elements
``[*batch]`` (for other groups ``[*batch, *group.shape]``) and data whose first axes stand against that batch.
"""

import torch
from torch import Tensor

import erlangen as er

MICROPHONES = 8


def turn_ring(g: Tensor, x: Tensor) -> Tensor:
    """Channel c of x ``[*batch, 8, time]`` moves to channel c + g."""
    source = (torch.arange(MICROPHONES, device=x.device) - g[..., None]) % MICROPHONES  # [*batch, 8]
    lead = torch.broadcast_shapes(source.shape[:-1], x.shape[: g.ndim])
    x = x.expand(*lead, *x.shape[g.ndim :])
    index = source.reshape(*source.shape[:-1], *[1] * (x.ndim - g.ndim - 2), MICROPHONES, 1)
    return torch.gather(x, -2, index.expand(x.shape))


SYMMETRY = er.Symmetry(f"Cyclic({MICROPHONES})", input=turn_ring, output="invariant")


def loudest_channel(x: Tensor) -> Tensor:
    """A feature that depends on how the ring is turned."""
    return x.square().mean(-1).argmax(-1, keepdim=True).float()


def spectrum_of_ring(x: Tensor) -> Tensor:
    """A feature that does not: sizes of the Fourier coefficients around the ring."""
    return torch.fft.rfft(x.square().mean(-1), dim=-1).abs()


def main() -> None:
    x = torch.randn(32, MICROPHONES, 100, generator=torch.Generator().manual_seed(0))
    group = SYMMETRY.group
    g, h = group.sample((2, 32), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(turn_ring(group.compose(g, h), x), turn_ring(g, turn_ring(h, x)))  # an action indeed

    for feature in (loudest_channel, spectrum_of_ring):
        report = er.audit(feature, SYMMETRY, x)
        print(
            f"{feature.__name__}: mean error {report.error:.1e}, worst {report.worst_error:.1e} ({report.certificate})"
        )
    exact = er.symmetrize(loudest_channel, SYMMETRY)
    print(f"averaged over the ring: worst error {er.audit(exact, SYMMETRY, x).worst_error:.1e}")


if __name__ == "__main__":
    main()
