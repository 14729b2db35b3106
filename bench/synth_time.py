"""`make bench-synth`: compares the whole-process time of `cdk synth` with that of an empty CDK app.

Takes the fastest of three alternating runs each. The ratio is what counts, since other work on the machine
slows both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CDK = ROOT / "node_modules/.bin/cdk"
DEPLOYMENT = ROOT / "tests/infra/variants/default.yaml"
EMPTY_APP = "import aws_cdk as cdk\napp = cdk.App()\ncdk.Stack(app, 'Empty')\napp.synth()\n"
ROUNDS = 3


def seconds(folder: Path, output: Path, *context: str) -> float:
    """Measures how long one synth takes."""
    command = [
        str(CDK),
        "synth",
        "--quiet",
        "--app",
        f"{sys.executable} app.py",
        "--output",
        str(output),
        *context,
    ]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    empty, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "app.py").write_text(EMPTY_APP)
        for number in range(ROUNDS):
            empty.append(seconds(folder, folder / f"empty{number}"))
            ours.append(seconds(ROOT, folder / f"ours{number}", "-c", f"deployment={DEPLOYMENT}"))
    ratio = min(ours) / min(empty)
    print(f"empty app {min(empty):.2f} s, default deployment {min(ours):.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
