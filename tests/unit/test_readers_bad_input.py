"""What people really put in the place of a file, for every reader: the same rows, or one error that names the file.

The good files are those of `invented`, in the layout of shipped tasks, so each reader is tried as a task uses it.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters_xling import tasks
from adapters_xling.errors import DataError, MissingData, UnknownName, XlingError
from adapters_xling.spec import FileSource, TaskSpec
from adapters_xling.tasks import data, readers
from tests.unit import invented

CASES = {
    # reader and layout: task, number of its source, split, language
    "table of tabs": ("xnli", 0, "dev", "de"),
    "table of tabs with a header": ("qqp", 0, "dev", "en"),
    "table of commas": ("cosmosqa", 0, "dev", "en"),
    "table of JSON lines": ("snli", 0, "dev", "en"),
    "table in a JSON file": ("kit-hellaswag", 0, "test", "en"),
    "linked": ("kit-pawsx", 0, "test", "de"),
    "conll": ("panx", 0, "dev", "de"),
    "conllu": ("udpos", 2, "test", "yo"),
    "ccgbank": ("ccg", 0, "dev", "en"),
    "squad": ("xquad", 0, "test", "de"),
    "sentence_answers": ("lareqa", 0, "test", "de"),
    "aligned": ("tatoeba", 1, "test", "de"),
    "bitext": ("bucc2018", 0, "dev", "de"),
    "mentions": ("mewslix", 0, "dev", "de"),
    "plain": ("", 0, "train", "en"),
}
PLAIN = TaskSpec(
    name="text",
    kind="mlm",
    role="private",
    title="Running text",
    languages=("en",),
    sources=(FileSource(reader="plain", splits={"train": "text/{language}.txt"}),),
    metrics=("masked_accuracy",),
)


class World:
    """A task with one source, and its invented files; the first of them is what goes wrong."""

    def __init__(self, case: str, root: Path) -> None:
        name, number, self.split, self.code = CASES[case]
        self.root = root
        if name:
            task = tasks.get(name)
            self.task = msgspec.structs.replace(task, sources=(task.sources[number],))
        else:
            self.task = PLAIN
        source = self.task.sources[0]
        assert isinstance(source, FileSource)
        if name:
            invented.write(self.task, source, self.split, self.code, root)
        else:
            (root / "text").mkdir()
            (root / "text" / "en.txt").write_text("one line\n\nanother line\nné\n", encoding="utf-8")
        if self.task.labels_from:
            invented.write(self.task, source, self.task.labels_from, self.code, root)
            self.task = tasks.with_labels(self.task, data_dir=root)
        self.file = self.root / self.load().files[0]

    def load(self) -> data.Rows:
        return data.load(self.task, self.split, self.code, data_dir=self.root)

    def texts(self) -> list[Any]:
        """What the rows say, without places and ids."""
        return [{**row, "id": ""} for row in map(msgspec.to_builtins, self.load().examples)]


@pytest.fixture(params=CASES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(request.param, tmp_path)


def zipped(raw: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside", raw)
    return buffer.getvalue()


def test_every_reader_is_tried() -> None:
    tried = {PLAIN.sources[0].reader}  # type: ignore[union-attr]
    tried |= {tasks.get(name).sources[number].reader for name, number, *_ in CASES.values() if name}  # type: ignore[union-attr]
    assert tried == set(readers.names())


# --- the same rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.rstrip(b"\n"),
    ],
    ids=["byte order mark", "CRLF", "both", "no last line end"],
)
def test_what_editors_add_changes_no_row(world: World, change: Callable[[bytes], bytes]) -> None:
    before = world.texts()
    world.file.write_bytes(change(world.file.read_bytes()))
    assert world.texts() == before


def test_a_line_of_megabytes_is_a_row_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text(f"{'x' * 20_000_000}\tb\nc\td\n")
    rows = list(readers.get("table").read([file], options={"header": ["a", "b"]}, language="en"))
    assert [len(row.values["a"]) for row in rows] == [20_000_000, 1]
    text = tmp_path / "a.csv"
    text.write_text(f"a,b\n{'x' * 2_000_000},y\nc,d\n")
    rows = list(readers.get("table").read([text], options={}, language="en"))
    assert [len(row.values["a"]) for row in rows] == [2_000_000, 1]


# --- refused, by name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (gzip.compress, "is packed with gzip; unpack it"),
        (lambda raw: gzip.compress(raw)[:20], "is packed with gzip; unpack it"),
        (zipped, "is a zip archive; unpack it"),
        (lambda raw: zipped(raw)[:30], "is a zip archive; unpack it"),
        (lzma.compress, "is packed with xz; unpack it"),
        (lambda raw: raw.decode().encode("utf-16"), "is UTF-16; convert it"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (lambda raw: raw[: len(raw) // 2] + b"\xe4\xf6" + raw[len(raw) // 2 :], "is not UTF-8 .*0xe4.*iconv"),
    ],
    ids=["gzip", "half a gzip", "zip", "half a zip", "xz", "UTF-16", "LFS pointer", "Latin-1"],
)
def test_another_thing_than_text_is_named_with_what_to_do(
    world: World, change: Callable[[bytes], bytes], what: str
) -> None:
    world.file.write_bytes(change(world.file.read_bytes()))
    with pytest.raises(DataError, match=f"{world.file.name}.*{what}"):
        world.load()


def test_an_empty_file_is_an_error_that_names_it(world: World) -> None:
    world.file.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        world.load()
    assert world.file.name in str(caught.value)


@pytest.mark.parametrize("how", ["missing", "folder", "packed beside"])
def test_a_file_that_is_not_there_is_named_with_what_is_in_its_place(world: World, how: str) -> None:
    raw = world.file.read_bytes()
    world.file.unlink()
    if how == "folder":
        world.file.mkdir()
    if how == "packed beside":
        world.file.with_name(world.file.name + ".gz").write_bytes(gzip.compress(raw))
    said = {"missing": "not there", "folder": "is a folder, not a file", "packed beside": "gz; unpack it"}[how]
    with pytest.raises(MissingData) as caught:
        world.load()
    text = str(caught.value)
    if "*" not in str(world.task.sources[0].splits):  # of a pattern nobody knows which file was meant
        assert f"{world.file}" in text and said in text
    assert "--data-dir" in text


def test_a_file_that_may_not_be_read_is_an_error_not_a_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the refusal is made."""
    plain = Path.open

    def refused(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == world.file:
            raise PermissionError(13, "Permission denied", str(self))
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=f"{world.file.name}: cannot be read: Permission denied"):
        world.load()


def test_a_folder_that_may_not_be_entered_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(MissingData, match="Permission denied"):
        world.load()


def test_a_language_the_task_does_not_have_is_refused_before_any_file_is_read(world: World) -> None:
    with pytest.raises(UnknownName, match="unknown language of task"):
        data.load(world.task, world.split, "xx", data_dir=world.root)


UNKNOWN = {
    "table of tabs": ("entailment", "maybe"),
    "table of tabs with a header": ("\t0\tid", "\t7\tid"),
    "table of JSON lines": ('"neutral"', '"perhaps"'),
    "table in a JSON file": ('"answer": "A"', '"answr": "A"'),
    "linked": ("\t1\n", "\t7\n"),
    "conll": ("B-PER", "B-PERS"),
    "conllu": ("\tNOUN\t", "\tNUON\t"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_label_or_column_nobody_knows_names_file_row_and_what_is_valid(case: str, tmp_path: Path) -> None:
    world = World(case, tmp_path)
    text = world.file.read_text(encoding="utf-8")
    good, bad = UNKNOWN[case]
    assert good in text
    world.file.write_text(text.replace(good, bad), encoding="utf-8")
    with pytest.raises(DataError, match=rf"{world.file.name}: row \d+: (unknown label|no column for 'label')"):
        world.load()


@pytest.mark.parametrize(
    ("name", "suffix", "text", "message"),
    [
        ("table", ".json", "[" * 100_000, "is not JSON that can be read|is not valid JSON"),
        ("table", ".jsonl", '{"a": ' + "[" * 100_000 + "\n", "line 1 is not JSON that can be read|line 1 is not valid"),
        ("table", ".jsonl", '{"a": ' + "9" * 5000 + "}\n", "line 1 is not JSON that can be read: Exceeds the limit"),
        ("table", ".jsonl", '{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', "line 2 is not .*: key 'a' is given twice"),
        ("table", ".json", '[{"a": 1, "a": 3}]', "is not .*: key 'a' is given twice"),
        ("table", ".csv", "text,label,label\na,b,c\n", "column 'label' stands there twice.*Rename.*options.header"),
        ("table", ".tsv", "a\ta\tb\ta\n1\t2\t3\t4\n", "column 'a' stands there 3 times"),
        ("table", ".csv", '"a";"b"\n"1";"2"\n', "row .* not valid CSV: .*first line holds semicolons and no commas"),
        ("squad", ".json", '{"data": ' + "9" * 5000 + "}", "is not JSON that can be read: Exceeds the limit"),
        ("squad", ".json", '{"data": 3}', "after 0 questions: not SQuAD's layout"),
        ("sentence_answers", ".json", '{"data": [{"paragraphs": [{"context": "a", "sentence_breaks": [[1]], '
         '"qas": []}]}]}', "paragraph 1: not XQuAD-R's layout"),
        ("sentence_answers", ".json", '{"data": [{"paragraphs": [{"context": "a", "sentence_breaks": [["x", 1]], '
         '"qas": []}]}]}', "paragraph 1: not XQuAD-R's layout"),
        ("mentions", ".jsonl", '{"context": {"language": "en", "text": "a"}, "mentions": [{"mention_span": 3}]}',
         "row 1: not Mewsli-X's layout"),
    ],
)  # fmt: skip
def test_files_that_only_look_right_are_refused(
    tmp_path: Path, name: str, suffix: str, text: str, message: str
) -> None:
    file = tmp_path / f"odd{suffix}"
    file.write_text(text)
    with pytest.raises(DataError, match=rf"odd\{suffix}: ({message})"):
        list(readers.get(name).read([file, file] if name in ("sentence_answers", "mentions") else [file],
                                    options={}, language="en"))  # fmt: skip


def test_ids_of_a_treebank_that_are_no_numbers_pass_over_their_line(tmp_path: Path) -> None:
    file = tmp_path / "a.conllu"
    lines = ["1-x\tzum\t_\t_\t_\t_\t_\t_\t_\t_", "²\tx\tx\tX\t_\t_\t0\t_\t_\t_", "1\tHaus\tx\tNOUN\t_\t_\t0\t_\t_\t_"]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    for fused in (True, False):
        (row,) = readers.get("conll").read([file], options={"fused": fused}, language="de")
        assert row.values == {"words": ["Haus"], "tags": ["NOUN"]}


# --- anything at all -------------------------------------------------------------------------------------------------

DAMAGE = st.lists(
    st.tuples(st.sampled_from(["cut", "byte", "drop", "twice"]), st.floats(0, 0.999), st.integers(0, 255)),
    min_size=1,
    max_size=3,
)


def damaged(raw: bytes, steps: list[tuple[str, float, int]]) -> bytes:
    for kind, share, byte in steps:
        at = int(share * len(raw))
        if kind == "cut":
            raw = raw[:at]
        elif kind == "byte":
            raw = raw[:at] + bytes([byte]) + raw[at + 1 :]
        else:
            lines = raw.split(b"\n")
            row = int(share * len(lines))
            raw = b"\n".join([*lines[:row], *([lines[row]] * (2 if kind == "twice" else 0)), *lines[row + 1 :]])
    return raw


@pytest.mark.parametrize("case", CASES)
def test_damage_gives_rows_or_an_error_and_never_a_traceback(
    case: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(case, tmp_path_factory.mktemp("good"))
    good = world.file.read_bytes()

    @settings(max_examples=40, deadline=None, database=None)
    @given(DAMAGE)
    def check(steps: list[tuple[str, float, int]]) -> None:
        world.file.write_bytes(damaged(good, steps))
        try:
            rows = world.load()
        except XlingError as err:
            assert str(err).strip() and "Traceback" not in str(err)
        else:
            assert rows.kept == len(rows.examples) > 0

    check()


def test_the_errors_are_those_of_the_command(tmp_path: Path) -> None:
    """One message, exit code 2, through the real command."""
    import subprocess
    import sys

    world = World("squad", tmp_path)
    world.file.write_bytes(gzip.compress(json.dumps({"data": []}).encode()))
    command = [sys.executable, "-m", "adapters_xling.cli", "data", "check", "xquad", "--language", "de"]
    done = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is packed with gzip; unpack it" in done.stdout and "Traceback" not in done.stdout + done.stderr
