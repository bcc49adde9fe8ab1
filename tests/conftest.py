"""Shared by all tests: one thread, one Hypothesis profile, seeded generators, larger real data where there are any."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("erlangen", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("erlangen")
torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights of the small test networks come from torch's global stream."""
    torch.manual_seed(0)


@pytest.fixture
def shared_data() -> Path:
    """A folder of larger real data: ERLANGEN_TEST_DATA, or shared/data beside the repository; skips without it."""
    folder = Path(os.environ.get("ERLANGEN_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data that are not in the repository ({folder} is missing; set ERLANGEN_TEST_DATA)")
    return folder
