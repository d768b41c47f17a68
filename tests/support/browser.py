"""A headless Chromium that a test steers over a pipe (the Chrome DevTools Protocol).

Contract: all methods block, so a test calls them in a thread.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_PATIENCE: Final = 20.0  # seconds


class Browser:
    """One browser with one page.

    :ivar errors: what the page's scripts and its policy complained about.
    """

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self._profile = tempfile.mkdtemp()
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = (
            f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
            f"--disable-background-networking --hide-scrollbars --remote-debugging-pipe "
            f"--user-data-dir={self._profile} about:blank 3<&{to_read} 4>&{to_write}"
        )
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        self.errors: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Open *url*."""
        self._call("Page.navigate", url=url)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Let the window have that size, in pixels, and the system prefer light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def value(self, script: str) -> Any:
        """What *script* gives in the page."""
        told = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(f"{script}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def wait(self, script: str, wanted: object, seconds: float = _PATIENCE) -> None:
        """Wait until *script* gives the value *wanted*."""
        until = time.monotonic() + seconds
        while (found := self.value(script)) != wanted:
            if time.monotonic() > until:
                raise AssertionError(f"{script} gives {found!r}, not {wanted!r}")
            time.sleep(0.05)

    def key(self, key: str) -> None:
        """Press *key*, and let it go."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def type(self, text: str) -> None:
        """Type *text* where the cursor is."""
        self._call("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """Write what the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._write, json.dumps(request).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                if not (more := os.read(self._read, 65536)):
                    raise AssertionError("the browser has ended")
                self._rest += more
            message, _, self._rest = self._rest.partition(b"\0")
            told = json.loads(message)
            if told.get("id") == self._number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return told["result"]
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(told["params"]["exceptionDetails"]))
            elif told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.errors.append(told["params"]["entry"]["text"])
