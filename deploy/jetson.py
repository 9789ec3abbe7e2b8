"""Which Jetson this is, and what NVIDIA's software on it is: module, JetPack, Jetson Linux, CUDA, TensorRT.

Read from the device tree, from files of the distribution, and from the package database. On any other machine
`is_jetson` is false and every answer None.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from deploy import system_files

COMPATIBLE = "proc/device-tree/compatible"
MODEL = "proc/device-tree/model"
RELEASE = "etc/nv_tegra_release"
CUDA = "usr/local/cuda/version.json"
# The number of a module in the device tree, as NVIDIA's flashing guide lists them.
MODULES = {
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano 8GB (developer kit)",
    "p3701-0000": "Jetson AGX Orin 32GB (developer kit)",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3701-0008": "Jetson AGX Orin Industrial 64GB",
}
# What runs here was written for these; others may work.
KNOWN_TO_FIT = ("6.1", "6.2", "7.2")


@dataclass(frozen=True)
class Jetson:
    """A board and its software.

    Args:
        name: the device tree's, such as "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super".
        module: such as "Jetson Orin Nano 8GB (developer kit)"; None for one that is not in `MODULES`.
        module_id: such as "p3767-0005"; super_mode: whether it is flashed for the faster power modes.
        l4t: version of Jetson Linux, such as "36.4.3".
        jetpack: such as "6.2.1"; of the package nvidia-jetpack, None where that is not installed.
        cuda, tensorrt: versions installed by packages; None where there are none.
    """

    name: str | None
    module: str | None
    module_id: str | None
    super_mode: bool
    l4t: str | None
    jetpack: str | None
    cuda: str | None
    tensorrt: str | None

    @property
    def called(self) -> str | None:
        """What tells it from other boards: module and Super, such as "Jetson Orin NX 16GB Super".

        A module without a name is called by its number, behind the device tree's name; None where there is neither.
        """
        if self.module is not None:
            return f"{self.module} Super" if self.super_mode else self.module
        return ", ".join(filter(None, (self.name, self.module_id))) or None


def is_jetson() -> bool:
    """Whether this is a board with an NVIDIA Tegra, told by files only."""
    return "nvidia,tegra" in (system_files.read(COMPATIBLE) or "") or system_files.read(RELEASE) is not None


def find_jetson() -> Jetson | None:
    """What this board is; None on any other machine."""
    if not is_jetson():
        return None
    # Names in the device tree are separated by NULs: "nvidia,p3768-0000+p3767-0005-super", then plainer ones.
    names = (system_files.read(COMPATIBLE) or "").split("\0")
    found = re.search(r"(p3767|p3701)-(\d{4})", " ".join(names))
    module_id = found[0] if found else None
    return Jetson(
        name=system_files.read(MODEL),
        module=MODULES.get(module_id or ""),
        module_id=module_id,
        super_mode=any(name.endswith("-super") for name in names),
        l4t=l4t_version(system_files.read(RELEASE) or ""),
        jetpack=package_version("nvidia-jetpack"),
        cuda=cuda_version(),
        tensorrt=package_version("libnvinfer-bin")
        or package_version("libnvinfer10")
        or package_version("libnvinfer11"),
    )


def l4t_version(release: str) -> str | None:
    """ "36.4.3" of "# R36 (release), REVISION: 4.3, GCID: ..."; None for another text."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    return f"{match[1]}.{match[2]}" if match else None


def package_version(name: str) -> str | None:
    """The upstream version of an installed Debian package: "6.2.1" of "6.2.1+b38"; None when it is not installed."""
    text = system_files.answer("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Version}", name)
    match = re.match(r"ii\s+(?:\d+:)?(\d[\d.]*)", text or "")
    return match[1].rstrip(".") if match else None


def cuda_version() -> str | None:
    """The toolkit's version; None where there is none."""
    try:
        return str(json.loads(system_files.read(CUDA) or "")["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return None
