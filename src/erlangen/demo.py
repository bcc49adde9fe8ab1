"""The main job: a model of wearable sensors that breaks when the watch is worn differently, measured and made exact."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erlangen.data import basic_motions
from erlangen.enforce import symmetrize
from erlangen.files import write_text
from erlangen.groups import SO
from erlangen.measure import AuditReport, audit, write_report
from erlangen.soft import augment
from erlangen.symmetry import Symmetry
from erlangen.training import fit

ELEMENTS = 576
"""Rotations visited: a quasi-uniform grid on SO(3) with about 22 degrees between neighbours."""

EPOCHS = 60
CHUNK = 8
"""Fixed, so that the numbers do not depend on timing."""


class MotionNet(nn.Module):
    """A small 1-D CNN on recordings ``[B, time, 6]``: two convolutions, mean over time, class scores ``[B, 4]``."""

    def __init__(self, width: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(6, width, 7, padding=3), nn.ReLU(), nn.Conv1d(width, width, 7, padding=3), nn.ReLU()
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores; recordings are scaled by a constant to the range of the weights."""
        return self.head(self.body(x.mT / 10).mean(-1))


def watch_symmetry() -> Symmetry:
    """SO(3) turns accelerometer and gyroscope together, and the activity does not change."""
    return Symmetry(SO(3), input="vectors + vectors", output="invariant")


def run_demo(out: Path, *, seed: int = 0, progress: bool | None = None) -> dict[str, Any]:
    """Train, audit, make exact, audit again; write ``out/demo.json`` and ``out/report.html``.

    Args:
        out: folder, created if missing.
        seed: seed of weights, order and augmentation.
        progress: show progress bars; by default on a terminal.

    Returns:
        What ``demo.json`` holds: for "plain", "augmented", "wrapped" (frames around the plain model without training) and
        "exact" (the same, trained on) the numbers "upright", "orbit_mean", "worst_sample" (accuracies) and
        "equivariance_error"; and the settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are too small to share, and one thread makes the numbers repeat
    try:
        reports = train_and_audit(seed, progress=progress)
    finally:
        torch.set_num_threads(threads)
    numbers: dict[str, Any] = {
        name: {
            "upright": report.upright,
            "orbit_mean": report.orbit_mean,
            "worst_sample": report.worst_sample,
            "equivariance_error": report.error,
        }
        for name, report in reports.items()
    }
    numbers["settings"] = {
        "seed": seed,
        "elements": ELEMENTS,
        "epochs": EPOCHS,
        "train": 40,
        "test": 40,
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_text(out / "demo.json", json.dumps(numbers, indent=1) + "\n")
    write_report(
        list(reports.values()),
        out / "report.html",
        title="Which activity is it, however the watch sits?",
        intro=[
            "80 recordings of a smart watch (BasicMotions, UEA archive): 40 to train, 40 to test, four activities. A watch worn "
            "differently turns both of its sensors; the activity stays the same.",
            "The plain network was trained on watches as they were worn. Augmented: the same network trained on randomly turned "
            "recordings. Wrapped: frames around the plain network, without training: exactly invariant, but the network has "
            "never seen recordings in the frames' coordinates. Exact: the wrapped network trained with its frames.",
        ],
    )
    return numbers


def train_and_audit(seed: int, *, progress: bool | None = None) -> dict[str, AuditReport]:
    """The four models and their audits on the test recordings."""
    train, test = basic_motions("train"), basic_motions("test")
    symmetry = watch_symmetry()

    def fresh() -> MotionNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MotionNet()

    def trained(model: nn.Module, transform: Any = None) -> nn.Module:
        fit(
            model,
            train.x,
            train.y,
            loss=F.cross_entropy,
            epochs=EPOCHS,
            batch_size=8,
            lr=3e-3,
            transform=transform,
            seed=seed,
            progress=progress,
        )
        return model

    plain = trained(fresh())
    models = {
        "plain": plain,
        "augmented": trained(fresh(), augment(symmetry)),
        "wrapped": symmetrize(plain, symmetry, how="frames"),
        "exact": trained(symmetrize(fresh(), symmetry, how="frames")),
    }
    return {
        name: audit(
            model, symmetry, test.x, test.y, elements=ELEMENTS, chunk=CHUNK, seed=seed, name=name, progress=progress
        )
        for name, model in models.items()
    }


def demo_table(numbers: dict[str, Any]) -> Any:
    """The demo's numbers as a rich table."""
    from rich.table import Table

    table = Table(title="Accuracy on 40 unseen recordings, watch turned by SO(3)", title_justify="left")
    for heading, side in (
        ("model", "left"),
        ("as worn", "right"),
        ("worn anyhow", "right"),
        ("right for every rotation", "right"),
        ("equivariance error", "right"),
    ):
        table.add_column(heading, justify="left" if side == "left" else "right")
    for name in ("plain", "augmented", "wrapped", "exact"):
        row = numbers[name]
        shares = [f"{100 * row[key]:.1f} %" for key in ("upright", "orbit_mean", "worst_sample")]
        table.add_row(name, *shares, f"{row['equivariance_error']:.1e}")
    return table
