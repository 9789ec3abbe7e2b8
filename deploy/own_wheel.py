"""A wheel of the code that runs now, for installation on a board without network.

A build backend would need the network for itself, writes into the checkout, and finds nothing to build in an installed
copy. A wheel of pure Python is a zip of the packages with three text files; its bytes depend on its content alone.
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from stereo.errors import UserError

DISTRIBUTION = "stereodistill"
PACKAGES = ("stereo", "teacher", "student", "distill", "calibration", "deploy")
# The earliest that a zip can tell; without it the bytes would change with every build.
TIME = (1980, 1, 1, 0, 0, 0)
WHEEL = "Wheel-Version: 1.0\nGenerator: stereodistill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def own_wheel() -> tuple[str, bytes]:
    """File name and content.

    Raises:
        UserError: the packages were not installed, so that nothing tells their version and dependencies.
    """
    try:
        installed = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            "this copy is not installed", where=DISTRIBUTION, fix="pip install -e . in the checkout"
        ) from error
    about = f"{DISTRIBUTION}-{installed.version}.dist-info"
    files = dict(package_files(Path(__file__).resolve().parent.parent))
    files[f"{about}/METADATA"] = (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").encode()
    files[f"{about}/WHEEL"] = WHEEL.encode()
    for name in ("entry_points.txt", "licenses/LICENSE"):
        text = installed.read_text(name)
        if text:
            files[f"{about}/{name}"] = text.encode()
    return f"{DISTRIBUTION}-{installed.version}-py3-none-any.whl", zipped(files, f"{about}/RECORD")


def package_files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of our packages below a folder; no caches, no hidden files."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            name = path.relative_to(root)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
            if path.is_file() and not hidden and path.suffix != ".pyc":
                yield name.as_posix(), path.read_bytes()


def zipped(files: Mapping[str, bytes], record: str) -> bytes:
    """A zip of the files, with the list of their checksums that a wheel needs.

    Args:
        record: the list's name.
    """
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, record: "\n".join([*lines, f"{record},,", ""]).encode()}.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()
