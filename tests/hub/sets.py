"""Starts the loopback hub before any client is imported: `HF_ENDPOINT` is read when `huggingface_hub` is.

Imported by the `inside_*.py` files only, which `test_hub.py` runs in a process of their own.
"""

from __future__ import annotations

import io
import os
from typing import Any

from tests.hub.loopback import LoopbackHub

HUB = LoopbackHub().__enter__()
os.environ["HF_ENDPOINT"] = HUB.url

LABELS = ("entailment", "neutral", "contradiction")
ABSENT = "f" * 40


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def pairs(count: int, mark: str) -> list[dict[str, Any]]:
    """NLI rows as the hub keeps them: labels as class numbers."""
    return [{"premise": f"{mark} {i}", "hypothesis": f"so {i}", "label": i % 3} for i in range(count)]


def card(*configs: str, rows: int | None = None) -> str:
    """README with configurations in its head, parquet files below a folder each, and the names of the classes."""
    lines = ["---", "configs:"]
    for config in configs:
        lines += [f"- config_name: {config}", "  data_files:"]
        for split in ("train", "validation"):
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    lines += ["dataset_info:"]
    for config in configs:
        lines += [f"- config_name: {config}", "  features:"]
        lines += ["  - {name: premise, dtype: string}", "  - {name: hypothesis, dtype: string}"]
        lines += ["  - name: label", "    dtype:", "      class_label:", "        names:"]
        lines += [f"          '{i}': {name}" for i, name in enumerate(LABELS)]
        if rows is not None:
            lines += ["  splits:"]
            lines += [f"  - {{name: {split}, num_examples: {rows}}}" for split in ("train", "validation")]
    return "\n".join([*lines, "---", "# A set made for a test", ""])


def nli_files(mark: str, *configs: str, count: int = 6) -> dict[str, bytes | str]:
    files: dict[str, bytes | str] = {"README.md": card(*configs)}
    for config in configs:
        for split in ("train", "validation"):
            files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(pairs(count, f"{mark} {config} {split}"))
    return files
