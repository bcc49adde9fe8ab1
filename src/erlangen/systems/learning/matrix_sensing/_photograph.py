"""A block of a photograph that matplotlib carries (public domain): a real, badly conditioned matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from erlangen.errors import check_integer


def photograph(size: int, rank: int) -> Tensor:
    """The best approximation ``[size, size]`` of a given rank to a grey block around the middle, scaled to sigma_1 = 1."""
    import matplotlib.cbook  # late: it takes long to import
    import matplotlib.image

    check_integer("size", size, rank)
    path = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    picture = torch.as_tensor(matplotlib.image.imread(path).copy()).double().mean(-1)
    top, left = ((side - size) // 2 for side in picture.shape)
    a, s, bt = torch.linalg.svd(picture[top : top + size, left : left + size])
    return (a[:, :rank] * s[:rank] / s[0]) @ bt[:rank]
