"""Loss curves against the frozen ones in losses.json (written by scripts/freeze_goldens.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from curves import CASES, STEPS, curve

GOLDEN = json.loads((Path(__file__).parent / "losses.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_the_loss_curve_is_the_frozen_one(case: str, tmp_path: Path) -> None:
    """Relative tolerance 2e-4: what another CPU's matrix kernels may change; a changed rule moves far more."""
    losses = curve(case, tmp_path)
    assert len(losses) == STEPS
    assert losses == pytest.approx(GOLDEN[case], rel=2e-4)


def test_every_case_is_frozen_and_no_two_curves_agree() -> None:
    assert set(GOLDEN) == set(CASES)
    assert len({tuple(losses) for losses in GOLDEN.values()}) == len(GOLDEN)
