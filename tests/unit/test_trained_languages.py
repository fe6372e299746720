"""Which languages trained the head that is scored, where several tasks of a mixture share another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from zoo_samples import a_run

from adapters_xling import tasks
from adapters_xling.scored import trained_languages
from adapters_xling.spec import TaskRef
from adapters_xling.zoo import HeadCard, Zoo


def a_card(rows: dict[str, tuple[str, ...]], extra: Path | None = None) -> Any:
    """A card of a mixture of tasks (name -> training languages), whose heads name the first task of each."""
    run = msgspec.structs.replace(a_run(), tasks=tuple(TaskRef(name=name, digest="b" * 64) for name in sorted(rows)))
    heads: dict[str, HeadCard] = {}
    for name in sorted(rows):
        spec = tasks.get(name, extra=extra)
        heads.setdefault(spec.head_name, HeadCard(kind=spec.kind, labels=spec.labels, task=name))
    data = {f"{name}/train/{code}": None for name, codes in rows.items() for code in codes}
    return SimpleNamespace(run=run, heads=heads, data=data)


@pytest.mark.parametrize(
    ("rows", "task", "trained"),
    [
        ({"mini-nli": ("en",), "mini-mlm": ("de", "sw")}, "mini-nli", {"en"}),
        ({"mini-nli": ("en",), "mini-mlm.de": ("de",), "mini-mlm.sw": ("sw",)}, "mini-nli", {"en"}),
        ({"mini-nli": ("en",), "mini-mlm.de": ("de",), "mini-mlm.sw": ("sw",)}, "mini-mlm", {"de", "sw"}),
        ({"squad1": ("en",), "mnli": ("en",), "mnli-translated": ("de", "sw")}, "xquad", {"en"}),
        ({"squad1": ("en",), "mnli": ("en",), "mnli-translated": ("de", "sw")}, "xnli", {"en", "de", "sw"}),
    ],
)
def test_rows_of_tasks_under_another_head_do_not_count(
    rows: dict[str, tuple[str, ...]], task: str, trained: set[str], tmp_path: Path
) -> None:
    zoo = Zoo(tmp_path, fallbacks=())
    assert trained_languages(a_card(rows), tasks.get(task), zoo) == trained


def test_a_task_of_ones_own_is_found_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = Path("task_configs/mini/mini-nli.yaml").read_text(encoding="utf-8").replace("role: mini", "role: private")
    (folder / "mine.yaml").write_text(text.replace("name: mini-nli", "name: mine\nhead: mini-nli"), encoding="utf-8")
    card = a_card({"mine": ("de",), "mini-nli": ("en",), "mini-pos": ("en",)}, folder)
    assert card.heads["mini-nli"].task == "mine"
    zoo = Zoo(tmp_path / "zoo", fallbacks=())
    pos = tasks.get("mini-pos")
    assert trained_languages(card, pos, zoo, extra_tasks=folder) == {"en"}
