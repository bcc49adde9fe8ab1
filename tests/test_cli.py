"""The command line as a user meets it: subprocesses for exit codes, the parser in process for the rest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from erlangen import cli

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(12, 3)
    def forward(self, x):
        return self.linear(x.flatten(1))
model = Net()
norms = lambda x: x.norm(dim=-1)
number = 3
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(6, 4, 3)).astype(np.float32), y=np.arange(6) % 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(*extra, target="net.py:model", group="SO(3)", action="points", data="data.npz"):
    return cli.run(
        ["audit", target, "--group", group, "--input", action, "--output", "invariant", "--data", data, *extra]
    )


def test_audit_writes_html_and_json(work, capsys):
    code = audit("--html", "report.html", "--json", "report.json", "--elements", "20", "--layers")
    assert code == 0
    assert "equivariance error" in capsys.readouterr().out
    numbers = json.loads((work / "report.json").read_text())
    assert numbers["metric"]["name"] == "accuracy"
    assert numbers["elements"]["count"] == 20
    assert numbers["lost_at"] == "linear"
    assert "<svg" in (work / "report.html").read_text()


def test_json_to_stdout_is_json_alone(work, capsys):
    assert audit("--json", "-", "--elements", "5") == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 6


def test_max_error_decides_the_exit_code(work):
    assert audit("--max-error", "1e-3", "--elements", "5") == 1
    assert audit("--max-error", "1e-3", "--elements", "5", target="net.py:norms") == 0
    assert audit("--elements", "5", target="net.py:Net") == 0


def test_package_target(work, monkeypatch):
    (work / "pack").mkdir()
    (work / "pack" / "__init__.py").write_text("")
    (work / "pack" / "nets.py").write_text(NET)
    assert audit("--elements", "5", target="pack.nets:model") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "net.py:modle"}, "has no 'modle'; it has"),
        ({"target": "net.py:number"}, "is a int, which cannot be called"),
        ({"target": "net.py"}, "write package.module:name"),
        ({"target": "nothing.py:model"}, "there is no file 'nothing.py'"),
        ({"target": "no.such.module:model"}, "no module 'no.such.module'"),
        ({"target": "model.onnx"}, "there is no such file"),
        ({"group": "SO(4)"}, "acts on 4 coordinates"),
        ({"group": "SOO(3)"}, "SOO"),
        ({"action": "pionts"}, "did you mean 'points'"),
        ({"data": "nothing.npz"}, "there is no such file"),
    ],
)
def test_errors_are_one_line(work, capsys, options, message):
    assert audit("--elements", "5", **options) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("erlangen: ")


def test_debug_shows_the_traceback(work):
    with pytest.raises(ValueError, match="has no 'modle'"):
        audit("--debug", target="net.py:modle")


def test_a_module_that_fails_to_import_is_one_line(work, capsys):
    (work / "broken.py").write_text("raise RuntimeError('kaput')")
    assert audit(target="broken.py:model") == 2
    assert "running 'broken.py' failed: RuntimeError: kaput" in capsys.readouterr().err


def test_missing_extra_has_its_own_code(work, capsys, monkeypatch):
    (work / "model.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert audit(target="model.onnx") == 3
    assert "pip install 'erlangen[onnx]'" in capsys.readouterr().err


@pytest.mark.slow
def test_version_help_and_usage_errors():
    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "erlangen.cli", *words], capture_output=True, text=True, check=False
        )

    assert call("--version").stdout.startswith("erlangen 0.")
    for words in (("--help",), ()):
        shown = call(*words)
        assert shown.returncode == 0
        assert "examples:" in shown.stdout
        assert "audit" in shown.stdout
    assert call("audit").returncode == 2
    assert call("nonsense").returncode == 2


@pytest.mark.slow
def test_interrupt_exits_with_130(work, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("erlangen.measure.audit", interrupted)
    assert audit() == 130


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_demo_tells_the_story(tmp_path, seed, capsys):
    """What README and report say, within what 40 recordings can tell."""
    assert cli.run(["demo", "--out", str(tmp_path / "demo"), "--seed", str(seed)]) == 0
    numbers = json.loads((tmp_path / "demo" / "demo.json").read_text())
    plain, augmented, wrapped, exact = (numbers[name] for name in ("plain", "augmented", "wrapped", "exact"))
    assert plain["upright"] >= 0.9
    assert plain["orbit_mean"] <= 0.6
    assert plain["worst_sample"] <= 0.4
    assert plain["equivariance_error"] > 0.1
    assert augmented["orbit_mean"] >= 0.9
    assert wrapped["upright"] == wrapped["orbit_mean"] == wrapped["worst_sample"] < 0.7
    assert exact["upright"] == exact["orbit_mean"] == exact["worst_sample"] >= 0.9
    assert exact["equivariance_error"] < 1e-5
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("z kept upwards") == 4
    assert "exact" in capsys.readouterr().out


START = """
import sys
sys.argv = ["erlangen", *sys.argv[1:]]
print("begins", flush=True)
from erlangen.cli import main
main()
"""


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.7, 1.0, 1.4])
@pytest.mark.parametrize("command", [["list"], ["verify", "--all"], ["demo"]])
def test_an_interrupt_while_a_command_begins_shows_no_traceback(tmp_path, command, seconds):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", START, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        cwd=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    time.sleep(seconds)  # the package is being imported
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert "Traceback" not in errors
    assert process.returncode in (-signal.SIGINT, 130, 0)


def test_a_program_that_uses_the_library_keeps_its_interrupts():
    code = "import signal, erlangen; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    command = f"import sys; sys.argv = ['/usr/bin/erlangen']; {code.replace('default_int_handler', 'SIG_DFL')}"
    begun = "; from erlangen.cli import run; run(['list', '--results', '/none'])"
    after = f"; {code.removeprefix('import signal, erlangen; ')}"
    subprocess.run(
        [sys.executable, "-c", command + begun + after], check=True, env=environment, capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


# --- actions of the user, ranges, tolerances -------------------------------------------------------------------------
MINE = '''"""Actions and answers of a user."""

import torch

import erlangen as er


def turn(g, x):
    return x @ g.mT


class Points(er.actions.Points):
    pass


tree = {"energy": "invariant", "forces": "vectors"}
near = er.SO(3).within(degrees=1)
number = 3


def energies(pos):
    return {"energy": 1e4 + pos.norm(dim=-1).sum(1, keepdim=True), "forces": pos + torch.tensor([0.5, 0.0, 0.0])}


def offset(pos):
    return 1e4 + pos[:, 0, :1]


with open("ran.txt", "a") as file:
    file.write("x")
'''


@pytest.fixture
def mine(work):
    Path("mine.py").write_text(MINE)
    return work


def test_actions_of_the_user(mine, capsys):
    """The same numbers as by name, and the file is run once."""
    assert audit("--json", "named.json", "--elements", "8") == 0
    for i, action in enumerate(("mine.py:turn", "mine.py:Points")):
        assert audit("--json", f"mine{i}.json", "--elements", "8", action=action) == 0
        named, own = (json.loads(Path(f).read_text())["error"]["by_element"] for f in ("named.json", f"mine{i}.json"))
        assert own == pytest.approx(named, rel=1e-4)
    capsys.readouterr()
    assert Path("ran.txt").read_text() == "x"


def test_groups_and_ranges_of_the_command_line(mine):
    assert audit("--json", "far.json") == 0
    errors = [json.loads(Path("far.json").read_text())["error"]["mean"]]
    for group in ("SO(3) within 1 degrees", "mine.py:near"):
        assert audit("--json", "near.json", group=group) == 0
        found = json.loads(Path("near.json").read_text())
        assert found["symmetry"]["group"] == "SO(3) within 1 degrees"
        errors.append(found["error"]["mean"])
    assert errors[1] == errors[2] < 0.1 * errors[0]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("mine.py:missing", "input = 'mine.py:missing': mine.py has no 'missing'; it has"),
        ("none.py:turn", "input: there is no file 'none.py'"),
        ("no.module:turn", "input: no module 'no.module'"),
        ("mine.py:", "write package.module:name or file.py:name"),
        ("mine.py:number", "is a int; name a function fn(g, x)"),
    ],
)
def test_what_is_no_action_is_one_line(mine, capsys, action, message):
    assert audit(action=action) == 2
    assert message in capsys.readouterr().err


def test_tolerances_of_entries_and_the_scale(mine, capsys):
    def run(*extra, target="mine.py:energies", output="mine.py:tree"):
        words = ["--group", "SO(3)", "--input", "points", "--output", output, "--data", "x.npy", "--elements", "8"]
        return cli.run(["audit", target, *words, *extra])

    np.save("x.npy", np.load("data.npz")["x"])
    assert run() == 0
    assert run("--tol", "energy=1e-5") == 0
    assert run("--tol", "energy=1e-5", "--tol", "forces=1e-3") == 1
    assert run("--tol", "forces=10") == 0
    assert run("--tol", "1e-3") == 1
    assert run("--tol", "1e-5", "--tol", "forces=10") == 0
    assert run("--tol", "torque=1") == 2
    assert "the answer has energy, forces" in capsys.readouterr().err
    assert run("--tol", "small") == 2
    assert run("--max-error", "1e-3", target="mine.py:offset", output="invariant") == 0
    assert run("--max-error", "1e-3", "--scale", "spread", target="mine.py:offset", output="invariant") == 1
