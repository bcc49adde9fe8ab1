"""CAD-score: how well a model of a protein keeps the areas of contacts; by own areas, or by the program voronota."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from erlangen.errors import DataError, ShapeError, check_finite, check_floating
from erlangen.files import reading

__all__ = ["cad_score", "voronota_cad_score"]


def cad_score(found: Tensor, true: Tensor) -> Tensor:
    """Contact area difference score of each residue: the share of its native contact areas that a model keeps.

    >>> true = torch.tensor([[0.0, 10, 0], [10, 0, 30], [0, 30, 0]])
    >>> found = torch.tensor([[0.0, 5, 8], [5, 0, 60], [8, 60, 0]])
    >>> cad_score(found, true)  # half is lost; 5 of 40 is, and 30 too much counts as all 30; the same 30 of 30
    tensor([0.5000, 0.1250, 0.0000])

    For residue i it is ``1 - sum_j min(|T_ij - M_ij|, T_ij) / sum_j T_ij``, T areas of the native structure, M of the model.

    Args:
        found, true: areas of contacts between residues ``[..., N, N]`` of the same residues; the diagonal counts for nothing.

    Returns:
        ``[..., N]``, in [0, 1]; NaN for a residue without native contacts.

    Raises:
        ShapeError: of different or not square shape.
        DataError: a negative area.

    Source: Olechnovic, Kulberkyte and Venclovas, Proteins 81 (2013).
    """
    for name, areas in (("found", found), ("true", true)):
        check_floating(areas, name)
        check_finite(areas, name)
    if found.shape != true.shape or true.ndim < 2 or true.shape[-1] != true.shape[-2]:
        raise ShapeError(f"found has shape {tuple(found.shape)} and true {tuple(true.shape)}; give both [..., N, N]")
    if bool((found < 0).any()) or bool((true < 0).any()):
        raise DataError("areas are negative; give areas of contacts")
    others = 1 - torch.eye(true.shape[-1], dtype=true.dtype, device=true.device)
    lost = torch.minimum((true - found).abs(), true) * others
    return 1 - lost.sum(-1) / (true * others).sum(-1)


def voronota_cad_score(
    model: str | Path, target: str | Path, *, window: int = 0, depth: int = 0
) -> tuple[float, dict[int, float]]:
    """CAD-score of a PDB file against another, by the program ``voronota-cadscore`` (Debian package voronota).

    Args:
        model, target: PDB files; residues are told apart by their numbers.
        window, depth: smoothing along the sequence and over neighbours, as the program has it.

    Returns:
        The score of the model, and that of each residue by its number.

    Raises:
        DataError: the program is not installed, or cannot read the files.
    """
    program = shutil.which("voronota-cadscore")
    if program is None:
        raise DataError("voronota-cadscore is not installed; on Debian: apt install voronota")
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder) / "scores"
        call = [program, "-t", str(target), "-m", str(model), "--output-residue-scores", str(scores)]
        call += ["--smoothing-window", str(window), "--neighborhood-depth", str(depth)]
        made = subprocess.run(call, capture_output=True, text=True, check=False)
        if made.returncode or not scores.is_file():
            said = (made.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DataError(f"voronota-cadscore cannot compare {str(model)!r} with {str(target)!r}: {said[:300]}")
        with reading("voronota-cadscore wrote what cannot be read"):
            total = float(made.stdout.split()[4])
            lines = [line.split() for line in scores.read_text().splitlines()]
            # c<A>r<12>R<GLY> 0.53
            return total, {int(words[0].split("r<")[1].split(">")[0]): float(words[-1]) for words in lines}
