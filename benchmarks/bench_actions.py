"""Moving many clouds against torch.bmm into a buffer, and images against torch's own grid_sample and rot90."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from common import compare

import erlangen as er


def main() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for clouds, points in ((20_000, 1024), (2_000, 256), (64, 32)):
            x = torch.randn(clouds, points, 3)
            g = er.SO(3).sample(clouds)
            move = er.actions.Points().on(er.SO(3))
            buffer = torch.empty_like(x)
            transposed = g.mT
            compare(
                f"rotate {clouds} clouds of {points} points",
                lambda x=x, g=g, move=move: move.act(g, x),
                "torch.bmm into a buffer",
                lambda x=x, t=transposed, buffer=buffer: torch.bmm(x, t, out=buffer),
                target=round(1 / 1.5, 3),
                note="float32; ours allocates its result",
                runs=9,
            )
        images = torch.rand(64, 3, 64, 64)
        turn = er.actions.Image().on(er.SO(2))
        g = er.SO(2).sample(64)
        theta = torch.cat((g.mT, torch.zeros(64, 2, 1)), -1)

        def sampled() -> torch.Tensor:
            grid = F.affine_grid(theta, list(images.shape), align_corners=True)
            return F.grid_sample(images, grid, align_corners=True)

        compare(
            "rotate 64 images 3 x 64 x 64 by any angle",
            lambda: turn.act(g, images),
            "affine_grid and grid_sample",
            sampled,
            note="bilinear; ours takes its coordinates in float64 and moves exact elements bit for bit",
        )
        quarter = er.actions.Image().on(er.Cyclic(4))
        compare(
            "turn 64 images 3 x 64 x 64 by 90 degrees",
            lambda: quarter.act(torch.tensor(1), images),
            "torch.rot90, contiguous",
            lambda: torch.rot90(images, 1, (-2, -1)).contiguous(),
            note="both bit-exact; ours takes any element per image",
        )


if __name__ == "__main__":
    main()
