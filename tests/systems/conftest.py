"""One smoke run of every system for all tests of a session, in whichever process they run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from erlangen.survey.ledger import run

Entry = dict[str, Any]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str], Entry]:
    """``smoke(name)``: the entry of a smoke run, made once."""
    folder: Path = tmp_path_factory.getbasetemp()
    folder = folder if worker_id == "master" else folder.parent

    def entry(name: str) -> Entry:
        file = folder / f"smoke-{name}.json"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                file.write_text(json.dumps(run(name, "smoke", 0, threads=1)))
        return json.loads(file.read_text())

    return entry
