"""Every file source of every shipped task reads invented files of its layout, and `check_task` finds nothing wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from adapters_xling import tasks
from adapters_xling.errors import DataError
from adapters_xling.spec import FileSource
from adapters_xling.tasks.check import check_task
from tests.unit import invented
from tests.unit.tiny import tiny_tokenizer


def cases() -> list[tuple[str, int, str]]:
    """(task, number of its source, split) of every file source."""
    found = []
    for task in tasks.all_specs():
        for number, source in enumerate(task.sources):
            if isinstance(source, FileSource):
                splits = source.partition.splits if source.partition else source.splits
                found += [(task.name, number, split) for split in splits]
    return found


@pytest.mark.parametrize(("name", "number", "split"), cases())
@pytest.mark.filterwarnings("ignore:.*doc_stride")
def test_check_task_is_green_on_invented_rows(tmp_path: Path, name: str, number: int, split: str) -> None:
    task = tasks.get(name)
    source = task.sources[number]
    assert isinstance(source, FileSource)
    code = (source.languages or task.languages_by_split.get(split) or task.train_languages or task.languages)[0]
    if code not in (task.languages_by_split.get(split) or task.languages):
        code = task.languages[0]
    alone = msgspec.structs.replace(task, sources=(source,))
    invented.write(task, source, split, code, tmp_path)
    if task.labels_from and split != task.labels_from:
        invented.write(task, source, task.labels_from, code, tmp_path)
    if name == "bucc2018" and number == 1:  # XTREME's test set, without its gold
        with pytest.raises(DataError, match=r"no query of files .* has a match"):
            tasks.load(alone, split, code, data_dir=tmp_path)
        return
    if name == "bucc2018":  # of sixty rows, the threshold of one half need not fit the other
        alone = task = msgspec.structs.replace(alone, metrics=("mining_oracle_f1",))
    rows = tasks.load(alone, split, code, data_dir=tmp_path)
    assert rows.kept == len(rows.examples) > 0 and not rows.dropped and not rows.renamed
    report = check_task(
        tasks.with_labels(alone, data_dir=tmp_path), rows.examples, tiny_tokenizer(), language=code, max_length=64
    )
    assert report.scores == dict.fromkeys(task.metrics, 100.0)
    assert report.unreachable == {}


def test_every_kind_of_file_source_was_tried() -> None:
    readers = {tasks.get(name).sources[number].reader for name, number, _ in cases()}  # type: ignore[union-attr]
    assert readers == {
        "table", "linked", "conll", "squad", "ccgbank", "sentence_answers", "mentions", "aligned", "bitext", "plain"
    }  # fmt: skip
