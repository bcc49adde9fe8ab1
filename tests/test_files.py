"""Files are replaced at once, sealed so that no changed byte passes, and read with every damage named."""

import ast
import io
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import erlangen
from erlangen.errors import DataError, ErlangenError
from erlangen.files import (
    check_size,
    read_archive,
    read_tensors,
    reading,
    sealed_archive,
    sealed_tensors,
    size_limit,
    write_bytes,
    write_text,
)

ROOT = Path(erlangen.__file__).parent


# --- writing ---------------------------------------------------------------------------------------------------------
def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "report.html"
    write_text(path, "ein Gruß")
    assert path.read_bytes() == "ein Gruß".encode()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask  # as any new file
    path.chmod(0o640)
    write_bytes(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)
    assert os.listdir(tmp_path) == ["report.html"]  # noqa: PTH208 - also hidden files


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    write_text("/dev/null", "gone")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("place", ["no/such/file", "folder", "file/below", "circle"])
def test_what_cannot_be_written_is_named(tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = sorted(os.listdir(tmp_path))  # noqa: PTH208
    with pytest.raises(DataError, match=rf"{place}' cannot be written: .*; choose another folder"):
        write_text(tmp_path / place, "text")
    assert sorted(os.listdir(tmp_path)) == before  # noqa: PTH208
    assert (tmp_path / "file").read_text() == "kept"


def test_long_names_are_written(tmp_path):
    write_text(tmp_path / ("n" * 250), "text")
    assert (tmp_path / ("n" * 250)).read_text() == "text"


def test_a_kill_leaves_the_old_or_the_new(tmp_path):
    """Files of 4 MB of one byte each, written over and over; killed at random times, the file is always of one byte."""
    path = tmp_path / "file"
    code = f"""
from erlangen.files import write_bytes
print("begins", flush=True)
while True:
    for byte in b"abc":
        write_bytes({str(path)!r}, bytes([byte]) * (4 << 20))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    rng = random.Random(0)
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        process.stdout.readline()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        data = path.read_bytes()
        assert len(data) == 4 << 20
        assert len(set(data)) == 1


def test_every_file_goes_through_here():
    """No module writes a file on its own: what it does would be half there after a kill."""
    foreign = {"save_file", "mkstemp", "NamedTemporaryFile", "tofile", "savetxt", "savez", "savez_compressed"}
    into_memory = {"figures.py", "testing.py", "files.py"}  # what these save goes into io.BytesIO
    found = []
    for path in ROOT.rglob("*.py"):
        if path.name == "files.py" and path.parent == ROOT:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, (ast.Attribute, ast.Name)):
                continue
            method = isinstance(node.func, ast.Attribute)
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            owner = node.func.value.id if method and isinstance(node.func.value, ast.Name) else ""
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            opens = name == "open" and any(word[:1] in "wax" for word in words if 0 < len(word) <= 3)
            saves = (
                name == "savefig" or (name == "save" and owner in ("torch", "np"))
            ) and path.name not in into_memory
            if opens or saves or name in foreign or (method and name in ("write_text", "write_bytes")):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert found == []


# --- seals -----------------------------------------------------------------------------------------------------------
def flips(data: bytes, count: int) -> list[bytes]:
    rng = random.Random(0)
    places = [*range(40), *range(len(data) - 110, len(data)), *(rng.randrange(len(data)) for _ in range(count))]
    return [data[:i] + bytes([data[i] ^ (1 << rng.randrange(8))]) + data[i + 1 :] for i in places]


def test_no_flipped_byte_of_an_archive_passes():
    state = {"model": {"w": torch.arange(200.0)}, "epoch": 3, "history": [{"loss": 0.5}]}
    data = sealed_archive(state)
    for read in (read_archive(data), torch.load(io.BytesIO(data), weights_only=True)):  # torch alone reads it, too
        assert torch.equal(read["model"]["w"], state["model"]["w"])
        assert (read["epoch"], read["history"]) == (3, [{"loss": 0.5}])
    for damaged in [*flips(data, 400), data[:-1], data + b"\0", data[:-80], data[: len(data) // 2], b""]:
        with pytest.raises(DataError, match="broken"), reading("broken"):
            read_archive(damaged)


def test_no_flipped_byte_of_tensors_passes():
    tensors = {"errors": torch.rand(8, 9, dtype=torch.float64), "done": torch.ones(9, dtype=torch.bool)}
    data = sealed_tensors(tensors, {"fingerprint": "abc"})
    found, texts = read_tensors(data, {"fingerprint"})
    assert texts == {"fingerprint": "abc"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    from safetensors.torch import load

    assert torch.equal(load(data)["errors"], tensors["errors"])  # any reader of safetensors can
    for damaged in [*flips(data, 400), data[:-1], data + b"\0", b""]:
        with pytest.raises(DataError, match="broken"), reading("broken"):
            read_tensors(damaged, {"fingerprint"})


def test_the_same_content_makes_the_same_file():
    tensors, texts = {"b": torch.ones(2), "a": torch.zeros(3)}, {"key": "x", "ä": "ü", "z": "1"}
    first = sealed_tensors(tensors, texts)
    assert all(sealed_tensors(tensors, texts) == first for _ in range(20))
    read, named = read_tensors(first, unsealed=set())
    assert named == texts
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_archives_without_a_seal_are_checked_by_their_own_sums():
    """Version 0.1.0 wrote these; numpy's numbers in them, which it could not read again, can be read now."""
    file = io.BytesIO()
    torch.save({"w": torch.arange(50.0), "loss": [np.float64(0.25), np.int64(3), np.float32(2), np.bool_(True)]}, file)
    data = file.getvalue()
    assert read_archive(data)["loss"] == [0.25, 3, 2.0, True]
    at = data.index(torch.arange(50.0).numpy().tobytes()) + 17
    with pytest.raises(ValueError, match="is damaged"):
        read_archive(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


# --- reading ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep\nlines"), AttributeError("x"), OSError("gone")])
def test_foreign_errors_become_one(error):
    message = r"^it broke: (MemoryError|deep|x|gone); try again$"
    with pytest.raises(DataError, match=message) as caught, reading("it broke", remedy="try again"):
        raise error
    assert caught.value.__cause__ is error


def test_an_interrupt_is_no_damage():
    with pytest.raises(KeyboardInterrupt), reading("it broke"):
        raise KeyboardInterrupt


def test_sizes_are_limited_and_limits_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "small"
    path.write_bytes(bytes(100))
    check_size(path, 1 << 30)
    with pytest.raises(
        DataError, match=r"100 bytes and needs 1,073,741,825 in memory.*er.data.size_limit\(1073741825\)"
    ):
        check_size(path, (1 << 30) + 1)
    with size_limit(2 << 30):
        check_size(path, 2 << 30)
    monkeypatch.setenv("ERLANGEN_SIZE_LIMIT", "10")
    check_size(path, 800)  # eight times what the file has anyway
    with pytest.raises(DataError, match="more than the limit of 800"):
        check_size(path, 801)
    with size_limit(801):
        check_size(path, 801)
    monkeypatch.setenv("ERLANGEN_SIZE_LIMIT", "2 GB")
    with pytest.raises(ErlangenError, match="ERLANGEN_SIZE_LIMIT = '2 GB': give a positive number"):
        check_size(path, 1)
    with pytest.raises(ErlangenError, match="limit = 0: give a positive"), size_limit(0):
        pass
