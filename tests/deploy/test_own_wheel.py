"""The wheel of the running code is one that pip installs, and the same whenever the code is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from deploy.own_wheel import own_wheel


def test_pip_installs_it(tmp_path: Path) -> None:
    name, data = own_wheel()
    assert own_wheel() == (name, data)
    (tmp_path / name).write_bytes(data)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / name)], check=True)
    program = "import importlib.metadata as m, stereo.cli; print(stereo.cli.__file__, m.version('stereodistill'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "stereo" / "cli.py"), name.split("-")[1]], done.stderr
    assert (tmp_path / "site" / "bin" / "stereodistill").exists()


def test_it_holds_the_packages_and_their_data_only() -> None:
    _, data = own_wheel()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    for name in ("deploy/board/steps.py", "deploy/flash.py", "student/weights/nano.safetensors"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "."))]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "stereo", "teacher", "student", "distill", "calibration", "deploy",
    }  # fmt: skip
