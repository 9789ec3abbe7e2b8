"""Which wheels a board needs, found for a machine that is not this one."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy import wheelhouse
from deploy.wheelhouse import Target, base_requirements, download, fill_wheelhouse, lock_text, parse_targets
from stereo.artifacts import sha256_file
from stereo.errors import UserError

JETPACK6 = Target("aarch64", "cp310")


def make_wheel(folder: Path, name: str, needs: Sequence[str] = ()) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {need}" for need in needs)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{about}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_the_base_is_what_the_project_says() -> None:
    names = {line.split(">")[0].split("[")[0] for line in base_requirements()}
    assert names == {"jsonargparse", "pyyaml", "rich", "onnx"}


@pytest.mark.parametrize("text", ["aarch64", "cp310", "arm-cp310", "aarch64-cp38", "", ","])
def test_unknown_targets(text: str) -> None:
    with pytest.raises(UserError, match="target"):
        parse_targets(text)


def test_a_target_takes_wheels_of_older_systems_only() -> None:
    assert "manylinux_2_35_aarch64" in JETPACK6.platforms
    assert "manylinux2014_aarch64" in JETPACK6.platforms
    assert "manylinux_2_36_aarch64" not in JETPACK6.platforms


def test_what_only_the_target_needs_comes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip decides markers by its own Python, so `python_version < "3.11"` is false here and true on the board."""
    asked: list[list[str]] = []
    needs = {
        "top": ['old_only; python_version < "3.11"', 'arm_only>=1; platform_machine == "aarch64"',
                'pc_only; platform_machine == "x86_64"', 'extra_only; extra == "x"', "plain"],
        "arm_only": ["Deep.er"],
    }  # fmt: skip

    def pip(target: Target, wanted: Sequence[str], folder: Path) -> None:
        asked.append(list(wanted))
        for line in [*wanted, "plain"]:
            name = line.split(">")[0].lower().replace(".", "_")
            make_wheel(folder, name, needs.get(name, ()))

    monkeypatch.setattr(wheelhouse, "run_pip", pip)
    made = download(JETPACK6, ["top"], tmp_path)
    assert [path.name.split("-")[0] for path in made] == ["arm_only", "deep_er", "old_only", "plain", "top"]
    assert len(asked) == 3


def test_a_lock_is_what_pip_installs_by_checksum(tmp_path: Path) -> None:
    """pip itself takes the lock, offline, and refuses a wheel that was altered."""
    wheels = [make_wheel(tmp_path, "two_words"), make_wheel(tmp_path, "top", ["two-words"])]
    lock = tmp_path / "lock.txt"
    lock.write_text(lock_text(wheels))
    assert f"two-words==1.0 --hash=sha256:{sha256_file(wheels[0])}" in lock.read_text()

    def install(out: str) -> subprocess.CompletedProcess[str]:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        words = ["--require-hashes", "--find-links", str(tmp_path), "-r", str(lock), "--target", str(tmp_path / out)]
        return subprocess.run([*pip, *words], capture_output=True, text=True)

    assert install("fine").returncode == 0
    assert (tmp_path / "fine" / "top-1.0.dist-info").is_dir()
    make_wheel(tmp_path, "two_words", ["altered"])
    assert "DO NOT MATCH THE HASHES" in install("altered").stderr


def test_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(UserError, match="pip finds no wheels for aarch64-cp310") as raised:
        download(JETPACK6, ["surely-not-there"], tmp_path)
    assert "--wheelhouse false" in str(raised.value)


@pytest.mark.slow
def test_the_real_wheelhouse_of_jetpack_6(tmp_path: Path) -> None:
    """From the index that pip is configured with; wheels for another processor and another Python than ours."""
    try:
        locks = fill_wheelhouse(tmp_path, [JETPACK6])
    except UserError as error:
        pytest.skip(f"no package index here: {error}")
    names = {path.name for path in tmp_path.glob("*.whl")}
    assert not [name for name in names if "x86_64" in name or "torch" in name]
    numpy = next(line for line in locks["aarch64-cp310.txt"].splitlines() if line.startswith("numpy=="))
    assert numpy.startswith("numpy==1.")  # JetPack's OpenCV is built for it
    assert "onnxruntime==" not in locks["aarch64-cp310.txt"]
    assert "onnxruntime==" in locks["aarch64-cp310-onnxruntime.txt"]
    for start in ("onnx==", "rich==", "jsonargparse==", "pyyaml==", "cuda-python==12.6"):
        assert start in locks["aarch64-cp310.txt"]
    assert sum(name.startswith("pip-") for name in names) == 1
    assert "opencv-python-headless==" in locks["aarch64-cp310-opencv.txt"]


def test_looking_for_pip_leaves_setuptools_importable() -> None:
    """A process that bundles or flashes may import modelopt afterwards, which imports setuptools."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    program = (
        "from pathlib import Path\n"
        "from deploy.board.install import find_pip\n"
        "assert Path(find_pip(Path('/no/bundle'))).name == 'pip'\n"
        "import setuptools\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
