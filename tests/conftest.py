"""Shared by all tests: two threads, one Hypothesis profile, seeded generators."""

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
