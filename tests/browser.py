"""Open a page in a headless Chromium: its console lines and a screenshot."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONSOLE = re.compile(r'CONSOLE[:(].*?"(.*)", source: (.*)$')


@dataclass(frozen=True)
class Opened:
    """What a browser showed: every line that the page put on the console, and the picture of the window."""

    console: list[str]
    screenshot: Path


def open_page(page: Path, screenshot: Path, *, width: int = 1200, height: int = 2400, dark: bool = False) -> Opened:
    """Load a local page; skips the test, saying so, where no Chromium is installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    # In one process, a sandboxed frame is painted before the picture is taken; in its own it may come too late.
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--disable-features=IsolateSandboxedIframes",
            f"--user-data-dir={profile}", f"--window-size={width},{height}",
            "--enable-logging=stderr", "--v=0", f"--screenshot={screenshot}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            page.absolute().as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert screenshot.exists(), f"no screenshot was written:\n{done.stderr[-2000:]}"
    found = (_CONSOLE.search(line) for line in done.stderr.splitlines())
    return Opened([match[1] for match in found if match], screenshot)
