"""Scores on disk: strict reading, atomic writing."""

from __future__ import annotations

import stat

import msgspec
import pytest

from adapters_xling.errors import DataError, MissingData
from adapters_xling.report import read_scores, write_scores
from adapters_xling.spec import Score

SCORE = Score(
    key="k",
    task="pos",
    language="sw",
    metric="f1",
    value=61.25,
    num_examples=10,
    split="test",
    zero_shot=True,
    backbone="nano",
    method="lora",
    init="fresh",
    route="slot",
    intermediate="none",
    seed=3,
)


def test_round_trip_and_blank_lines(tmp_path):
    path = tmp_path / "deep" / "scores.jsonl"
    write_scores(path, [SCORE, SCORE])
    path.write_bytes(path.read_bytes() + b"\n")
    assert read_scores(path) == [SCORE, SCORE]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"key": "k"}', "missing required field"),
        (msgspec.json.encode(SCORE).replace(b'"seed":3', b'"seed":3,"sead":4'), "unknown field `sead`"),
        (msgspec.json.encode(SCORE).replace(b"61.25", b"NaN"), "malformed"),
        (msgspec.json.encode(SCORE).replace(b"61.25", b'"61"'), "Expected `float`"),
        (b'{"key": "\xff"}', "utf-8|UTF-8"),
    ],
)
def test_broken_line_names_file_and_line(tmp_path, line, reason):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(msgspec.json.encode(SCORE) + b"\n" + line + b"\n" + msgspec.json.encode(SCORE) + b"\n")
    with pytest.raises(DataError, match=rf"scores\.jsonl:2: not a score: .*({reason})"):
        read_scores(path)


def test_every_half_written_last_line_is_said_to_be_one(tmp_path):
    path = tmp_path / "scores.jsonl"
    whole = msgspec.json.encode(SCORE)
    for cut in range(1, len(whole)):
        path.write_bytes(whole + b"\n" + whole[:cut])
        with pytest.raises(DataError, match=r"scores\.jsonl:2: the last line is incomplete .* killed"):
            read_scores(path)


def test_last_line_without_line_break_counts_when_whole(tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(msgspec.json.encode(SCORE))
    assert read_scores(path) == [SCORE]


def test_missing_file(tmp_path):
    with pytest.raises(MissingData, match="cannot be read"):
        read_scores(tmp_path / "nowhere.jsonl")


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "scores.jsonl"
    write_scores(path, [SCORE])

    def broken():
        yield SCORE
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_scores(path, broken())
    assert read_scores(path) == [SCORE]
    assert [p.name for p in tmp_path.iterdir()] == ["scores.jsonl"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o044  # readable by others, as the umask has it
