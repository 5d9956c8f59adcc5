"""The demonstration, whole: what a new user sees first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_learns_the_digits(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kubesight.cli.main", "demo", "--output", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "demo" / "results"
    summary = json.loads((results / "evaluation" / "metrics.json").read_text())
    assert (summary["data"]["part"], summary["images"]) == ("test", 359)
    assert summary["metrics"]["accuracy"] > 0.95
    assert done.stdout.rstrip().endswith(f"report: {results / 'evaluation' / 'report.html'}")
