"""A headless Chromium that opens a page, for the tests of pages. It talks over pipes: nothing listens.

`Browser.open` makes a `Tab`: what the page says in its console, what a script in it gives, and what it looks like.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ANSWER_S_MAX = 60
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--remote-debugging-pipe",
)
# It takes commands from descriptor 3 and answers on 4.
_LAUNCHER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One Chromium; `browser` starts and ends it."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._read = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Its answer to a command; what it reports meanwhile is kept in `events`."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._commands, rest) :]
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, method: str, session: str) -> None:
        """Until it has reported that."""
        while not any(
            event.get("method") == method and event.get("sessionId") == session for event in self.events
        ):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], ANSWER_S_MAX)
            assert ready, f"the browser does not answer within {ANSWER_S_MAX} s"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded

    def open(self, page: Path, *, width: int, height: int, dark: bool = False, address: str = "") -> Tab:
        """The page in a new tab, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        tab.darken(dark)
        tab.call("Page.navigate", url=page.as_uri() + address)
        self.wait_for("Page.loadEventFired", session)
        return tab


class Tab:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def darken(self, dark: bool) -> None:
        """Prefer dark colours, or light ones."""
        value = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def value(self, script: str) -> Any:
        """What the script gives; awaited, if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Returns when the condition holds in the page, which is asked at every frame that it draws."""
        self.value(
            "new Promise((resolve) => { const ask = () => "
            f"({condition}) ? resolve() : requestAnimationFrame(ask); ask(); }})"
        )

    def move_to(self, x: float, y: float) -> None:
        """The pointer, to there in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, x: float, y: float, *, to_x: float) -> None:
        """With the left button, along a line."""
        button: dict[str, Any] = {"button": "left", "clickCount": 1, "y": y}
        self.move_to(x, y)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, buttons=1, **button)
        for at in (x + (to_x - x) / 2, to_x):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=at, buttons=1, **button)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, **button)

    def screenshot(self, *, top: int, height: int) -> bytes:
        """A PNG of so many pixels of the page, from there on."""
        clip = {"x": 0, "y": top, "width": self.value("innerWidth"), "height": height, "scale": 1}
        # The window is resized for what is beyond it.
        beyond = top + height > self.value("innerHeight")
        picture = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=beyond)["data"]
        return base64.b64decode(picture)

    @property
    def complaints(self) -> list[str]:
        """What the page logged, and what went wrong in it."""
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self._events() if event["method"] in names]

    @property
    def requested(self) -> list[str]:
        """The addresses that it asked for."""
        asked = [event for event in self._events() if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in asked]

    def _events(self) -> list[dict[str, Any]]:
        self.call("Runtime.evaluate", expression="0")  # what comes before its answer is there then
        return [event for event in self._browser.events if event.get("sessionId") == self._session]


def chromium() -> str | None:
    """Where it is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A new one, with an empty profile in the folder; the test is skipped where there is none."""
    program = chromium()
    if program is None:
        pytest.skip("there is no Chromium here to open a page with: on Debian, apt-get install chromium")
    command_out, command_in = _pipe()
    answer_out, answer_in = _pipe()
    launcher = [sys.executable, "-c", _LAUNCHER, str(command_out), str(answer_in), program]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [*launcher, *_FLAGS, f"--user-data-dir={folder / 'profile'}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(command_out, answer_in),
            process_group=0,
        )
    os.close(command_out)
    os.close(answer_in)
    try:
        yield Browser(command_in, answer_out)
    finally:
        os.close(command_in)
        os.close(answer_out)
        # It has children of its own.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pipe() -> list[int]:
    """Both ends, out of the way of the descriptors that the browser wants them on."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved
