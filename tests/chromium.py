"""Headless Chromium by its driver's own protocol (W3C WebDriver), for pages that have scripts."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

AVAILABLE = bool(shutil.which("chromedriver")) and bool(shutil.which("chromium"))
WAIT_S = 60.0


class Chromium:
    """A browser with one window. It sees no network but this machine's."""

    def __init__(self, *, width: int, height: int, dark: bool = False) -> None:
        self._size, self._dark = (width, height), dark

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        try:
            self._until_ready()
            width, height = self._size
            metrics = {"width": width, "height": height, "pixelRatio": 1, "touch": False}
            options = {
                "binary": shutil.which("chromium"),
                "args": [
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    f"--window-size={width},{height}",
                    *(["--blink-settings=preferredColorScheme=0"] if self._dark else []),
                ],
                "mobileEmulation": {"deviceMetrics": metrics},
            }
            capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self._driver.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait()

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def script(self, text: str, *arguments: Any) -> Any:
        """What a script returns."""
        body = {"script": text, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", body)

    def script_async(self, text: str, *arguments: Any) -> Any:
        """What a script gives its last argument, a function."""
        body = {"script": text, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/async", body)

    def wait(self, condition: str) -> None:
        """Until a script returns true. Raises TimeoutError after `WAIT_S`."""
        end = time.monotonic() + WAIT_S
        while not self.script(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}: {self.complaints()}")
            time.sleep(0.02)

    def keys(self, text: str) -> None:
        """Type, wherever the focus is. Special keys are those of WebDriver, such as \\ue015."""
        active = self._call("GET", f"{self._session}/element/active")
        (element,) = active.values()
        self._call("POST", f"{self._session}/element/{element}/value", {"text": text})

    def complaints(self) -> list[str]:
        """What the page's console has of errors."""
        rows = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [row["message"] for row in rows if row["level"] == "SEVERE"]

    def picture(self, out: Path) -> None:
        """Write what the window shows as PNG."""
        out.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def _until_ready(self) -> None:
        end = time.monotonic() + WAIT_S
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except OSError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.loads(answer.read())["value"]
