"""The Ray engine gives the ledger of the local one, and survives its workers."""

import json
import sys
import types
from pathlib import Path

import pytest

from erlangen import cli
from erlangen.survey.results import read_entry
from erlangen.survey.verification import verify
from helpers.fake_systems import write_system

DIES = """
def experiment(scale, seed):
    ran()
    import os
    log = Path("runs.log").read_text().split()
    if log.count("{name}") < {lives}:
        os._exit(1)
    return Result([{{"draw": torch.rand(()).item()}}], [Claim.exact("a", "b", measured=0.0)])
"""


@pytest.mark.slow
@pytest.mark.extra
def test_ray_is_the_local_engine_elsewhere(tmp_path, monkeypatch, capsys):
    """One of the systems kills its first worker, and the others never notice."""
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    for name in ("good", "failing", "raising"):
        write_system(Path("own"), name)
    write_system(Path("own"), "once", DIES.format(name="once", lives=2))
    words = ["verify", "own.once", "own.good", "own/failing.py", "own.raising", "--scale", "full"]
    assert cli.run([*words, "--engine", "ray", "--json", "ray.json", "--out", "ray"]) == 2
    assert "once: its worker died; try 2 of 3" in capsys.readouterr().err
    there = json.loads(Path("ray.json").read_text())
    assert [item["system"] for item in there] == ["once", "good", "failing", "raising"]
    assert sorted(path.stem for path in Path("ray").iterdir()) == ["failing", "good", "once"]

    assert cli.run([*words, "--json", "local.json", "--out", "local"]) == 2
    here = json.loads(Path("local.json").read_text())
    assert [without_time(item) for item in there] == [without_time(item) for item in here]
    for name in ("failing", "good", "once"):
        kept = [without_time(read_entry(Path(engine) / f"{name}.json")) for engine in ("ray", "local")]
        assert kept[0] == kept[1]
    for name in [name for name in sys.modules if name == "own" or name.startswith("own.")]:
        del sys.modules[name]


class FakeRay(types.ModuleType):
    """As much of Ray as `verify` uses, in this process; `deaths` says how often a system kills its worker."""

    class exceptions:
        class RayError(Exception): ...

        class RayTaskError(RayError):
            cause = ImportError("no torch\nhere")

    def __init__(self, deaths):
        super().__init__("ray")
        self.deaths, self.calls, self.cores = deaths, [], None

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 1.0}

    def remote(self, num_cpus, max_retries, max_calls):
        assert (max_retries, max_calls) == (0, 1)
        self.cores = num_cpus

        def submit(work):
            return types.SimpleNamespace(remote=lambda *arguments: self._task(work, arguments))

        return submit

    def _task(self, work, arguments):
        self.calls.append(arguments[0])
        task = type("Task", (), {})()
        task.work, task.arguments = work, arguments
        return task

    def wait(self, tasks, num_returns):
        return [tasks[-1]], tasks[:-1]  # the last one finishes first

    def get(self, task):
        name = task.arguments[0]
        if self.deaths.get(name) == "import":
            raise self.exceptions.RayTaskError
        if self.deaths.get(name, 0) >= self.calls.count(name):
            raise self.exceptions.RayError("killed")
        return task.work(*task.arguments)


def test_workers_that_die_are_named_and_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("good", "failing"):
        write_system(tmp_path, name)
    write_system(tmp_path, "always", "def experiment(scale, seed): ...\n")
    write_system(tmp_path, "never", "def experiment(scale, seed): ...\n")
    ray = FakeRay({"good": 2, "always": 99, "never": "import"})
    monkeypatch.setitem(sys.modules, "ray", ray)
    notes = []
    systems = [f"{name}.py" for name in ("good", "always", "failing", "never")]
    outcomes = {
        o.system: o for o in verify(systems, engine="ray", threads=2, note=notes.append, file=tmp_path / "all.json")
    }
    assert ray.cores == 1  # a machine with fewer cores than threads still runs it
    assert {name: ray.calls.count(name) for name in outcomes} == {"never": 1, "failing": 1, "always": 3, "good": 3}
    assert sorted(notes) == [f"{name}: its worker died; try {n} of 3" for name in ("always", "good") for n in (2, 3)]
    assert outcomes["good"].code == 0
    assert outcomes["always"].error == "its worker died 3 times, the last time with killed"
    assert outcomes["never"].error == "its worker cannot start it: no torch here"
    assert outcomes["never"].code == outcomes["always"].code == 2
    written = [item["system"] for item in json.loads((tmp_path / "all.json").read_text())]
    assert written == ["good", "always", "failing", "never"]  # in the order asked for, not that of finishing
    assert next(iter(outcomes)) == "never"


def without_time(item):
    return {key: value for key, value in item.items() if key != "seconds"}
