"""A headless Chromium driven over its DevTools pipe, for the report's benchmark and tests: no driver, no package.

Protocol: https://chromedevtools.github.io/devtools-protocol/. Messages are JSON, ended by a zero byte, on the browser's
file descriptors 3 (to it) and 4 (from it).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking", "no-first-run",
    "disable-component-update", "disable-default-apps", "disable-sync", "remote-debugging-pipe",
)  # fmt: skip


def find_browser() -> str | None:
    """The first browser that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Page:
    """One tab, and what happened in it.

    Args:
        console: errors, warnings and exceptions, as text.
        requests: addresses asked for, but the page's own and data: or blob: links.
    """

    process: subprocess.Popen[bytes]
    to_browser: int
    from_browser: int
    session: str = ""
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _rest: bytes = b""
    _last: int = 0

    def call(self, method: str, *, timeout_s: float = 180.0, **params: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self.from_browser], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self.from_browser, 1 << 20)
            if not data:
                raise RuntimeError("the browser ended")
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(json.dumps(params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(json.dumps(params["entry"]))
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "blob:", "file:")):
                self.requests.append(url)

    def open(self, path: Path) -> None:
        """Show a file and wait until its scripts say that they are ready."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.documentElement?.dataset.ready === 'yes' && document.readyState === 'complete'")

    def wait(self, condition: str, *, timeout_s: float = 180.0) -> None:
        """Until an expression is true.

        Raises:
            TimeoutError: it never was.
        """
        deadline = time.monotonic() + timeout_s
        while not self.run(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {condition}; console: {self.console}")
            time.sleep(0.02)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page.

        Raises:
            RuntimeError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key, for what has the focus."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35,
                 "Home": 36, " ": 32}  # fmt: skip
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), "code": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def resize(self, width: int, height: int) -> None:
        """The window's inside, px."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of what is visible, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browse(profile: Path, *, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A browser with one empty tab, closed in the end.

    Args:
        profile: a folder of its own; downloads land in it too.

    Raises:
        RuntimeError: no browser here, or it did not start.
    """
    browser = find_browser()
    if browser is None:
        raise RuntimeError(f"none of {', '.join(NAMES)} is installed")
    down, up = os.pipe(), os.pipe()
    # The shell moves the two ends to the numbers that the browser expects.
    script = f'exec "$0" "$@" 3<&{down[0]} 4>&{up[1]}'
    flags = [*(f"--{switch}" for switch in SWITCHES), f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    process = subprocess.Popen(
        ["bash", "-c", script, browser, *flags, "about:blank"],
        pass_fds=(down[0], up[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(down[0])
    os.close(up[1])
    page = Page(process, down[1], up[0])
    try:
        targets = page.call("Target.getTargets")["targetInfos"]
        target = next(item["targetId"] for item in targets if item["type"] == "page")
        session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(profile.resolve()))
        page.session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        yield page
    finally:
        page.session = ""
        with contextlib.suppress(Exception):
            page.call("Browser.close", timeout_s=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
        os.close(down[1])
        os.close(up[0])
