"""Trials of electrodes: what a file gives, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from erlangen.data import electrode_trials
from erlangen.errors import DataError


def test_classes_are_numbered_in_the_order_of_their_labels(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(4, 2, 5)).astype(np.float32)
    np.savez(tmp_path / "a.npz", X=X, y=np.array([12, 7, 12, 9], dtype=np.int8))
    x, y = electrode_trials(tmp_path / "a.npz")
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x.numpy(), X)
    assert y.tolist() == [2, 0, 2, 1]


def test_real_trials(shared_data: Path) -> None:
    x, y = electrode_trials(shared_data / "eeg_mamem_ssvep" / "subject01.npz")
    assert x.shape == (500, 8, 125)
    assert y.bincount().tolist() == [100, 100, 120, 100, 80]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="arrays X and y"):
        electrode_trials(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="arrays X and y"):
        electrode_trials(tmp_path / "text.npz")
    np.savez(tmp_path / "b.npz", X=np.zeros((3, 4)), y=np.zeros(3))
    with pytest.raises(DataError, match=r"\[trials, channels, samples\]"):
        electrode_trials(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", X=np.full((3, 4, 5), np.nan), y=np.zeros(3))
    with pytest.raises(DataError, match=r"X\[0\] has NaN"):
        electrode_trials(tmp_path / "c.npz")
