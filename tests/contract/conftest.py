"""One tiny random backbone on disk for all contract tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import write_backbone


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbones") / "tiny")
