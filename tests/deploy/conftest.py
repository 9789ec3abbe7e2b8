"""A small but real stereo network as ONNX, built node by node, and pairs whose disparity is known exactly.

The network regresses disparity by soft-argmax over absolute differences, so it is right where the texture is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import getpass
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy import device, system_files
from stereo.pair import StereoPair
from stereo.pictures import write_png

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
PLANES = 16
SIZE = (64, 96)


class GraphBuilder:
    """Collects nodes and constants of one graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def matching_costs(graph: GraphBuilder) -> str:
    """1×PLANES×H×W, lower is better: mean absolute difference over a window."""
    mean = graph.constant("channel_mean", np.full((1, 3, 1, 1), 1 / 3))
    costs = []
    for plane in range(PLANES):
        shifted = "right"
        if plane:
            pads = graph.constant(f"pads_{plane}", [0, 0, 0, plane, 0, 0, 0, -plane], np.int64)
            shifted = graph.node("Pad", ["right", pads], f"shifted_{plane}", mode="edge")
        difference = graph.node("Sub", ["left", shifted], f"difference_{plane}")
        absolute = graph.node("Abs", [difference], f"absolute_{plane}")
        gray = graph.node("Conv", [absolute, mean], f"gray_{plane}")
        costs.append(graph.node("AveragePool", [gray], f"cost_{plane}", kernel_shape=[5, 5], pads=[2, 2, 2, 2]))
    return graph.node("Concat", costs, "costs", axis=1)


def soft_argmin(graph: GraphBuilder, costs: str, output: str) -> str:
    sharpness = graph.constant("sharpness", -2.0)
    planes = graph.constant("planes", np.arange(PLANES).reshape(1, PLANES, 1, 1))
    axes = graph.constant("axes", [1], np.int64)
    weights = graph.node("Softmax", [graph.node("Mul", [costs, sharpness], "scores")], "weights", axis=1)
    return graph.node("ReduceSum", [graph.node("Mul", [weights, planes], "weighted"), axes], output, keepdims=1)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., Path]:
    """make_network(path, size=SIZE | None, metadata={}, nan_above=None, names=("left", "right"), ballast=0) → path.

    `nan_above` turns pixels whose red left value is above it into NaN; `ballast` adds that many unused-looking weights
    (their sum times zero is added), to make a file and its memory larger; size None leaves height and width open.
    """

    def make(
        path: Path,
        *,
        size: tuple[int, int] | None = SIZE,
        metadata: dict[str, str] | None = None,
        nan_above: float | None = None,
        names: tuple[str, str] = ("left", "right"),
        ballast: int = 0,
    ) -> Path:
        graph = GraphBuilder()
        disparity = soft_argmin(graph, matching_costs(graph), "regressed")
        if nan_above is not None:
            red = graph.node("Gather", ["left", graph.constant("channel", [0], np.int64)], "red", axis=1)
            bright = graph.node("Greater", [red, graph.constant("limit", nan_above)], "bright")
            disparity = graph.node("Where", [bright, graph.constant("nan", np.nan), disparity], "holed")
        if ballast:
            values = np.random.default_rng(0).normal(size=ballast)
            total = graph.node("ReduceMean", [graph.constant("ballast", values)], "total", keepdims=0)
            zero = graph.node("Mul", [total, graph.constant("zero", 0.0)], "nothing")
            disparity = graph.node("Add", [disparity, zero], "loaded")
        graph.node("Identity", [disparity], "disparity")
        shape = [1, 3, *(size or ("height", "width"))]
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("left", "right")]
        outputs = [helper.make_tensor_value_info("disparity", TensorProto.FLOAT, [1, 1, *shape[2:]])]
        model = helper.make_model(
            helper.make_graph(graph.nodes, "soft_argmin_stereo", inputs, outputs, graph.constants),
            opset_imports=[helper.make_opsetid("", 17)],
        )
        model.ir_version = 9
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = dict(zip(("left", "right"), names, strict=True)).get(name, name)
        for value, name in zip(model.graph.input, names, strict=True):
            value.name = name
        facts = {"preset": "toy", "max_disp": str(PLANES), "iterations": "0", "source_sha256": "ab" * 32}
        helper.set_model_props(model, {f"stereodistill.{k}": v for k, v in {**facts, **(metadata or {})}.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)
        return path

    return make


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Path]) -> Path:
    """The plain network at SIZE."""
    return make_network(tmp_path_factory.mktemp("network") / "toy.onnx", metadata={"precision": "fp32"})


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., StereoPair]:
    """make_pair(disparity, height, width) → a textured pair shifted by a whole number of pixels, with its truth."""

    def make(disparity: int = 5, height: int = SIZE[0], width: int = SIZE[1], name: str = "shifted") -> StereoPair:
        noise = np.random.default_rng(disparity).uniform(0, 255, (height, width + disparity, 3)).astype(np.float32)
        wide = cv2.GaussianBlur(noise, (0, 0), 1.0)
        wide = np.clip(128 + 3 * (wide - 128), 0, 255).astype(np.uint8)
        left, right = wide[:, :width], wide[:, disparity : disparity + width]
        truth = np.full((height, width), disparity, np.float32)
        noc = np.zeros((height, width), bool)
        noc[:, disparity + 4 :] = True
        return StereoPair(np.ascontiguousarray(left), np.ascontiguousarray(right), name, disparity=truth, noc=noc)

    return make


@pytest.fixture(scope="session")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory, make_pair: Callable[..., StereoPair]) -> Path:
    """A folder of two pairs as `stereo.benchmarks.load_pairs` reads it: one with a noc mask, one larger without."""
    folder = tmp_path_factory.mktemp("toy_pairs")
    for pair, masked in ((make_pair(5, name="near"), True), (make_pair(8, 128, 192, name="wide"), False)):
        assert pair.disparity is not None
        assert pair.noc is not None
        write_png(folder / pair.name / "left.png", pair.left)
        write_png(folder / pair.name / "right.png", pair.right)
        cv2.imwrite(str(folder / pair.name / "disp_left_x256.png"), (pair.disparity * 256).astype(np.uint16))
        if masked:
            write_png(folder / pair.name / "noc.png", (pair.noc * 255).astype(np.uint8))
    return folder


TEGRASTATS = """
echo $$ >> {folder}/tegrastats.pids
if [ -e {folder}/busy ]; then power={busy_mw}; else power={idle_mw}; touch {folder}/busy; fi
second=0
while :; do
    second=$((second + 1))
    echo "05-09-2026 18:42:06 RAM 4000/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [9%@1728,off] \\
EMC_FREQ 40%@3199 GR3D_FREQ 99%@[{gpu_mhz}] cpu@51C gpu@52.5C tj@$((52 + second)).5C \\
VDD_IN ${{power}}mW/1mW VDD_SOC 2720mW/2720mW"
    sleep 0.02
done
"""
JETSON_CLOCKS = """
if [ "$1" != --show ]; then exit 1; fi
echo "SOC family:tegra234  Machine:a test"
echo "cpu0:  Online=1 Governor=schedutil MinFreq={cpu_min}000 MaxFreq=1728000 CurrentFreq=1728000 IdleStates: WFI=1"
echo "GPU MinFreq={gpu_min}000000 MaxFreq=1020000000 CurrentFreq={gpu_min}000000"
echo "EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride={override}"
echo "NV Power Mode: 25W"
"""
DPKG_QUERY = """
for name; do :; done
case "$name" in
    nvidia-jetpack) echo "ii  6.2.1+b38" ;;
    libnvinfer-bin) echo "ii  10.3.0.30-1+cuda12.5" ;;
    *) exit 1 ;;
esac
"""


@dataclasses.dataclass
class FakeBoard:
    """A Jetson Orin Nano made of files and shell scripts.

    Args:
        root: what stands for "/"; programs: where its programs are, first on PATH.
    """

    root: Path
    programs: Path

    def write(self, path: str, text: str) -> None:
        """A file below the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def program(self, name: str, script: str) -> None:
        """A shell script on PATH."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def tegrastats(self, *, busy_mw: int = 12000, idle_mw: int = 5000, gpu_mhz: int = 1020) -> None:
        """Its first run says idle_mw, all later ones busy_mw; each notes its process id in `tegrastats.pids`."""
        script = TEGRASTATS.format(folder=self.programs, busy_mw=busy_mw, idle_mw=idle_mw, gpu_mhz=gpu_mhz)
        self.program("tegrastats", script)

    def clocks(self, *, locked: bool) -> None:
        """Set as jetson_clocks leaves them, or following the load; told by files and by jetson_clocks."""
        low, cpu_low = (1020, 1728) if locked else (306, 729)
        for name, value in {"min": low, "max": 1020, "cur": low}.items():
            self.write(f"sys/class/devfreq/17000000.gpu/{name}_freq", f"{value}000000\n")
        for name, value in {"min": cpu_low, "max": 1728, "cur": 1728}.items():
            for core in (0, 1):
                self.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_{name}_freq", f"{value}000\n")
        self.program("jetson_clocks", JETSON_CLOCKS.format(gpu_min=low, cpu_min=cpu_low, override=int(locked)))

    def processes(self) -> list[int]:
        """Ids of all tegrastats that were started."""
        path = self.programs / "tegrastats.pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    """An Orin Nano developer kit with JetPack 6.2.1 in its 25W mode, clocks locked, all tools there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    made = FakeBoard(tmp_path / "root", programs)
    monkeypatch.setattr(system_files, "ROOT", made.root)
    monkeypatch.setattr(device, "BOARD", made.root / "proc/device-tree/model")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    made.write("proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    names = ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234", "")
    made.write("proc/device-tree/compatible", "\0".join(names))
    made.write(
        "etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n"
    )
    made.write("usr/local/cuda/version.json", '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}')
    for index in (1, 2, 3):
        made.write(f"sys/class/hwmon/hwmon3/oc{index}_event_cnt", "7\n")
    made.write("sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    made.write("sys/class/thermal/cooling_device0/cur_state", "2\n")
    made.write("sys/class/thermal/cooling_device1/type", "gpu-throttle-alert\n")
    made.write("sys/class/thermal/cooling_device1/cur_state", "0\n")
    made.program("nvpmodel", '[ "$1" = -q ] && echo "NV Power Mode: 25W" && echo 1')
    made.program("dpkg-query", DPKG_QUERY)
    made.clocks(locked=True)
    made.tegrastats()
    return made


def load_stand_in(name: str) -> Any:
    """A module of tests/deploy/stand_ins, which is no package that tests could import."""
    spec = importlib.util.spec_from_file_location(f"stand_in_{name}", HERE / "stand_ins" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def members_of(module: Any) -> dict[str, list[str]]:
    """Class → its public members; of an enumeration its values."""
    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type)}
    return {
        name: list(getattr(kind, "__members__", None) or (member for member in dir(kind) if member[0] != "_"))
        for name, kind in kinds.items()
    }


@dataclasses.dataclass
class FakeGpu:
    """A machine with a GPU that is not there: stand-ins for TensorRT and CUDA are what `import` finds."""

    machine: Any
    workshop: Any


@pytest.fixture
def make_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., FakeGpu]:
    """make_gpu(tensorrt="10.3", cuda="12.6", integrated=True, module="p3767-0000", **) → FakeGpu; the last one holds.

    The rest goes to the CUDA stand-in's Machine. `tensorrt` is one of those in tests/golden/tensorrt_api, or "rtx" for
    the names of the TensorRT-RTX that is installed.
    """
    cuda_stand_in, tensorrt_stand_in = load_stand_in("cuda_runtime"), load_stand_in("tensorrt_module")

    @functools.cache  # before a stand-in takes its place
    def rtx_table() -> dict[str, list[str]]:
        return members_of(pytest.importorskip("tensorrt_rtx_bindings", reason="its names come from the wheel"))

    def read(kind: str, name: str) -> Any:
        return json.loads((GOLDEN / f"{kind}_api" / f"{name}.json").read_text())

    def make(
        tensorrt: str = "10.3",
        cuda: str = "12.6",
        *,
        integrated: bool = True,
        module: str = "p3767-0000",
        **options: Any,
    ) -> FakeGpu:
        if not integrated:
            options = {"name": "NVIDIA RTX A6000", "capability": (8, 6), **options}
        machine = cuda_stand_in.Machine(integrated=integrated, **options)
        workshop = tensorrt_stand_in.Workshop()
        if tensorrt == "rtx":
            table = rtx_table()
            stand_in = tensorrt_stand_in.make_tensorrt(table, "1.7", machine, workshop)
            monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", stand_in)
        else:
            table = read("tensorrt", f"tensorrt-{tensorrt}")
            stand_in = tensorrt_stand_in.make_tensorrt(table, tensorrt, machine, workshop)
            monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
        runtime = cuda_stand_in.make_cuda(read("cuda", f"cuda-python-{cuda}"), machine)
        package = types.ModuleType("cuda")
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "cuda", package)
        for layout in ("cuda.cudart", "cuda.bindings.runtime"):
            monkeypatch.delitem(sys.modules, layout, raising=False)
        monkeypatch.setitem(sys.modules, "cuda.cudart" if cuda == "12.6" else "cuda.bindings.runtime", runtime)
        tree = tmp_path / "root/proc/device-tree"
        tree.mkdir(parents=True, exist_ok=True)
        (tree / "compatible").write_text(f"nvidia,p3768-0000+{module}\0nvidia,tegra234\0" if integrated else "")
        (tmp_path / "root/proc/meminfo").write_text("MemTotal: 7441408 kB\nMemAvailable: 5000000 kB\n")
        monkeypatch.setattr("deploy.system_files.ROOT", tmp_path / "root")
        return FakeGpu(machine, workshop)

    return make


@dataclass
class LoopbackBoard:
    """A real OpenSSH server on this machine that stands for a board: own port, own keys, one folder of its own.

    It has the base packages and onnxruntime as JetPack's Python has its own, and nothing of this project.
    """

    folder: Path
    user: str
    port: int
    server: subprocess.Popen[bytes]

    @property
    def directory(self) -> Path:
        """What flash gets as --directory."""
        return self.folder / "flash"

    @property
    def home(self) -> Path:
        """The user's home there."""
        return self.folder / "home"

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1"

    @property
    def options(self) -> list[str]:
        """What the command line needs to reach it."""
        return [
            "--port", str(self.port), "--identity", str(self.folder / "user_key"),
            "--known-hosts", str(self.folder / "known_hosts"), "--directory", str(self.directory),
        ]  # fmt: skip

    def sessions(self) -> list[int]:
        """Every process that runs on the board, this server's listener left out."""
        found, queue = [], [self.server.pid]
        while queue:
            children = [Path(f"/proc/{queue.pop()}/task")]
            for task in (each for folder in children if folder.is_dir() for each in folder.iterdir()):
                with contextlib.suppress(OSError):
                    queue += map(int, (task / "children").read_text().split())
            found += [pid for pid in queue if pid not in found]
        return found

    def cut_power(self) -> None:
        """End everything that runs there at once, without a chance to tidy up."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def program(self, name: str, text: str) -> None:
        """Put a program on the board's path."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)


def packages_of(names: Sequence[str]) -> dict[str, Path]:
    """Name → place of every top-level file of some installed packages and of all that they need."""
    found: dict[str, Path] = {}
    seen, queue = set(), list(names)
    while queue:
        name = re.split(r"[^\w.\-]", queue.pop())[0].lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        queue += [line for line in package.requires or [] if "extra ==" not in line or name == "jsonargparse"]
        tops = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
        found |= {top: Path(str(package.locate_file(top))) for top in tops}
    return found


def board_user() -> tuple[str, str]:
    """Who flash logs in as, and that user's python: an ordinary user where there is one."""
    python = "/usr/bin/python3"
    if os.getuid() == 0:
        with contextlib.suppress(KeyError, OSError, subprocess.CalledProcessError):
            pwd.getpwnam("stereodistill")
            version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout
            if version.split()[1].rpartition(".")[0] == f"3.{sys.version_info[1]}":
                return "stereodistill", python
    return getpass.getuser(), os.path.realpath(sys.executable)


@pytest.fixture(scope="session")
def loopback_board() -> Iterator[LoopbackBoard]:
    """The board; tests that need it skip where there is no OpenSSH server."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("sftp") is None:
        pytest.skip("no OpenSSH server here (apt install openssh-server)")
    user, python = board_user()
    # Not pytest's own folder: other users cannot enter that.
    folder = Path(tempfile.mkdtemp(prefix="board-"))
    try:
        folder.chmod(0o755)
        for name in ("home", "bin", "packages"):
            (folder / name).mkdir()
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        for top, place in packages_of(["numpy", "opencv-python", "pyyaml", "rich", "jsonargparse", "onnx",
                                       "onnxruntime", "psutil", "typeshed-client"]).items():  # fmt: skip
            (folder / "packages" / top).symlink_to(place)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        path = f"{folder}/bin:/usr/local/bin:/usr/bin:/bin"
        (folder / "config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {folder}/user_key.pub\nPasswordAuthentication no\nUsePAM no\n"
            f"PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
            # At the first level bash reads ~/.bashrc for SSH's commands too, which may change the path.
            f"SetEnv PYTHONPATH={folder}/packages HOME={folder}/home PATH={path} SHLVL=1\n"
        )
        host = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # OpenSSH's own, which its service makes where there is one
            (folder / "home").chmod(0o777)
        server = subprocess.Popen([sshd, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")])
        board = LoopbackBoard(folder, user, port, server)
        board.program("python3", f'#!/bin/sh\nexec {python} "$@"\n')
        (folder / "flash").mkdir()
        shutil.chown(folder / "flash", user)
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield board
        board.cut_power()
        server.terminate()
        server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
