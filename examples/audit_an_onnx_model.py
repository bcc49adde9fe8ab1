"""Measure an ONNX file under turns, flips and shifts of images; needs the extra ``onnx``.

To use it for your own model name its file as the first argument, ``python examples/audit_an_onnx_model.py model.onnx``, and
change `load_batch`. Without an argument a small network is trained and written to a file first, for which the package
``onnx`` of the extra ``dev`` is needed.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import erlangen as er

SIZE = 16
SYMMETRIES = [
    er.Symmetry("Cyclic(4)", input="image", output="invariant"),
    er.Symmetry("Dihedral(4)", input="image", output="invariant"),
    er.Symmetry("SO(2)", input="image", output="invariant"),
    er.Symmetry(f"Shifts({SIZE},{SIZE})", input="rolled", output="invariant"),
]


def load_batch(samples: int = 64) -> tuple[Tensor, Tensor]:
    """Your images ``[N, C, H, W]`` and labels; here bright discs (0) and rings (1) on noise, off the centre."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples) % 2
    centre = torch.rand(samples, 2, 1, 1, generator=generator) * 4 - 2
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    radius = ((axis[:, None] - centre[:, 0]) ** 2 + (axis - centre[:, 1]) ** 2).sqrt()
    shape = torch.where(labels[:, None, None] == 0, radius < 4, (radius - 4).abs() < 1)
    return shape[:, None] + 0.3 * torch.randn(samples, 1, SIZE, SIZE, generator=generator), labels


def write_model(path: Path) -> None:
    """Train a small CNN and export it; with a model of your own you do not need this."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * (SIZE // 4) ** 2, 2)
    )
    x, y = load_batch()
    er.fit(model, x, y, loss=nn.functional.cross_entropy, epochs=20, batch_size=16, lr=3e-3)
    with warnings.catch_warnings():  # this exporter needs no further package, and announces its age
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (x[:1],),
            str(path),
            dynamo=False,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "model.onnx"
        if len(sys.argv) < 2:
            write_model(path)
        x, y = load_batch()
        print(f"{'group':<16}{'elements':>9}{'error':>9}{'as given':>10}{'over the orbit':>16}  certificate")
        for symmetry in SYMMETRIES:
            report = er.audit(path, symmetry, x, y, progress=False)  # the one line that is yours
            print(
                f"{symmetry.group.name:<16}{len(report.orbit):>9}{report.error:>9.3f}{report.upright:>10.3f}"
                f"{report.orbit_mean:>16.3f}  {report.certificate}"
            )


if __name__ == "__main__":
    main()
