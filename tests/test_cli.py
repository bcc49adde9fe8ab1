"""The command line as a user meets it: subprocesses for exit codes, the parser in process for the rest."""

import json
import os
import signal
import subprocess
import sys
import time

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
