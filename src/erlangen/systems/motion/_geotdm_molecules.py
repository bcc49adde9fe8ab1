"""Trajectories of ethanol to forecast, under forces of GFN2-xTB."""

from __future__ import annotations

import functools

import torch
from torch import Generator

from erlangen.simulate import ethanol, xtb_trajectory
from erlangen.systems.motion._geotdm_training import AHEAD, FRESH, GIVEN, Motion, Size, part

ETHANOL = "ethanol"
TESTED = 40
"""Largest number of pieces that are tested."""


@functools.lru_cache(maxsize=1)
def ethanol_motions(steps: int, seed: int) -> tuple[Motion, Motion]:
    """Pieces of one trajectory of nine atoms, 2 fs between frames: those of the first 70 % to train, of the rest to test.

    Pieces to train start two frames apart, those to test are spread over their share. ``past [B, 5, 9, 3]`` and ``pos
    [B, 10, 9, 3]`` in Angstrom; ``node [B, 9, 3]`` says which atoms are carbon, oxygen and hydrogen.

    Raises:
        MissingExtraError: tblite is not installed.
    """
    frames = xtb_trajectory(ethanol(), steps=steps, generator=Generator().manual_seed(FRESH + seed)).pos
    cut = int(0.7 * len(frames))
    kinds = torch.eye(3)[torch.tensor([0, 0, 1, *[2] * 6])]

    def pieces(first: int, last: int, stride: int) -> Motion:
        found = frames[first:last].unfold(0, GIVEN + AHEAD, stride).permute(0, 3, 1, 2)
        return {
            "past": found[:, :GIVEN].contiguous(),
            "pos": found[:, GIVEN:].contiguous(),
            "node": kinds.expand(len(found), -1, -1),
        }

    rest = len(frames) - cut - GIVEN - AHEAD
    return pieces(0, cut, 2), part(pieces(cut, len(frames), max(1, rest // TESTED)), 0, TESTED)


def ethanol_splits(size: Size, seeds: int, seed: int) -> list[tuple[Motion, Motion]]:
    """The same trajectory for as many trainings: a simulation costs as much as they do."""
    return [ethanol_motions(size.molecule_steps, seed)] * seeds
