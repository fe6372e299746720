"""Write tests/golden/losses.json again, after a change that is meant to move the loss curves.

Prints what moved and by how much; say in LOG.md why.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
FOLDER = Path(__file__).resolve().parents[1] / "tests" / "golden"
sys.path.insert(0, str(FOLDER))

from curves import CASES, curve  # noqa: E402


def main() -> None:
    """Train every case and freeze its curve."""
    path = FOLDER / "losses.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    after = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            after[case] = [round(loss, 7) for loss in curve(case, Path(folder))]
        old = before.get(case)
        moved = max((abs(a - b) for a, b in zip(after[case], old, strict=True)), default=0.0) if old else None
        print(f"{case:<16} {after[case]}  {'new' if moved is None else f'moved by at most {moved:.2g}'}")
    path.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
