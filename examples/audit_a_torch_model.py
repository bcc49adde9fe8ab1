"""Measure a torch model under rotations, with and without labels.

To use it for your own model change three things: `load_model`, `load_batch`, and the symmetry that you expect. Run it with
``python examples/audit_a_torch_model.py``; the report page is written when you name a file: ``... report.html``.
"""

import sys

import torch
from torch import Tensor, nn

import erlangen as er

SYMMETRY = er.Symmetry("SO(3)", input="vectors + vectors", output="invariant")


def load_model() -> nn.Module:
    """Your model; here a small network trained for a moment on real recordings of a smart watch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(600, 64), nn.ReLU(), nn.Linear(64, 4))
    train = er.data.basic_motions("train")
    er.fit(model, train.x / 10, train.y, loss=nn.functional.cross_entropy, epochs=20, batch_size=8)
    return model


def load_batch() -> tuple[Tensor, Tensor]:
    """Your inputs and labels, as tensors with the samples on the first axis."""
    test = er.data.basic_motions("test")
    return test.x / 10, test.y


def main() -> None:
    model, (x, y) = load_model(), load_batch()
    report = er.audit(model, SYMMETRY, x, y, elements=128, layers=True)
    report.show()

    worst = er.worst_case(model, SYMMETRY, x, y, elements=128, rounds=4)
    angle = torch.rad2deg(er.groups.rotation_angle(worst.element))
    print(f"worst rotation found: {float(angle):.0f} degrees, accuracy {100 * worst.score:.1f} %")
    print("hardest samples:", [row["sample"] for row in report.hardest_samples(5)])
    if len(sys.argv) > 1:
        report.to_html(sys.argv[1])


if __name__ == "__main__":
    main()
