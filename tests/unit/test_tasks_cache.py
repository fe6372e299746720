"""The cache gives back what was encoded, notices damage, and never stands in the way."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_xling import tasks
from adapters_xling.errors import ConfigError
from adapters_xling.tasks import cache
from adapters_xling.tasks.examples import Features, SentenceExample


class Backend:
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def to_str(self) -> str:
        return json.dumps(self.state)


class Tokenizer:
    padding_side = truncation_side = "right"

    def __init__(self, **state: Any) -> None:
        self.backend_tokenizer = Backend({"vocabulary": ["a", "b"], "truncation": None, "padding": None, **state})

    def __len__(self) -> int:
        return 2


class Words:
    """A kind that turns characters into ids, counts its calls, and gives examples with several rows."""

    name = "words"

    def __init__(self) -> None:
        self.num_encoded = 0

    def encode(self, examples: Sequence[Any], tokenizer: Any, task: Any, *, max_length: int) -> list[Features]:
        self.num_encoded += len(examples)
        found = []
        for i, example in enumerate(examples):
            rows = [[ord(c) for c in text[:max_length]] for text in (example.first, example.first[::-1] + "!")]
            for window in range(1 + i % 2):
                found.append(Features(i, rows[: 1 + i % 3], (i, window), {"é": [example.id, None, 0.5]}))
        return found


TASK = tasks.get("mini-nli")


def examples(number: int) -> list[SentenceExample]:
    return [SentenceExample(id=str(i), first="word" * (1 + i % 5), label="neutral") for i in range(number)]


def plain(features: Sequence[Features]) -> list[tuple[Any, ...]]:
    return [(f.example, f.input_ids, f.label, f.meta) for f in features]


def expected(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [
        (e, ids, list(label), meta) for e, ids, label, meta in plain(Words().encode(rows, None, None, max_length=9))
    ]


def test_features_come_back_as_they_were_encoded_over_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", 7 * 6)  # a multiple of the pattern's period, so that chunks encode alike
    rows = examples(100)
    kind = Words()
    first = tasks.features(kind, rows, Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    again = tasks.features(kind, rows, Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    wanted = expected(rows)
    assert [row[:2] + row[3:] for row in plain(first)] == [row[:2] + row[3:] for row in wanted]
    assert plain(first) == plain(again)
    assert kind.num_encoded == 100
    assert len(first) == len(wanted) and plain([first[-1]]) == [plain(first)[-1]] and len(first[2:5]) == 3
    assert isinstance(again, cache.CachedFeatures)
    assert again.num_tokens.tolist() == [feature.num_tokens for feature in again]
    with pytest.raises(IndexError):
        first[len(first)]


def test_the_file_is_safetensors_that_the_library_reads(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    features = tasks.features(Words(), examples(5), Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    tensors = load_file(file)
    assert tensors["tokens"].dtype == np.int32
    assert tensors["tokens"][: len(features[0].input_ids[0])].tolist() == features[0].input_ids[0]


def test_nothing_to_encode_is_an_empty_sequence(tmp_path: Path) -> None:
    found = tasks.features(Words(), [], Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    assert len(found) == 0 and list(found) == []
    assert isinstance(found, cache.CachedFeatures) and found.num_tokens.tolist() == []


def test_the_digest_follows_all_that_changes_features_and_no_passing_state() -> None:
    def digest(rows: Any = None, tokenizer: Any = None, task: Any = TASK, length: int = 9, kind: Any = None) -> str:
        rows = examples(3) if rows is None else rows
        return cache.content_digest(kind or Words(), rows, tokenizer or Tokenizer(), task, max_length=length)

    base = digest()
    assert digest() == base
    assert digest(tokenizer=Tokenizer(truncation={"max_length": 3}, padding={"length": 2})) == base
    others = [
        digest(rows=examples(4)),
        digest(tokenizer=Tokenizer(vocabulary=["b", "a"])),
        digest(task=tasks.get("mini-paraphrase")),
        digest(length=10),
    ]
    assert len({base, *others}) == 5


def test_the_digest_follows_every_file_of_the_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from adapters_xling.tasks import kinds

    folder = tmp_path / "kinds"
    shutil.copytree(Path(kinds.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "_KINDS_DIR", folder)
    digests = [cache._code_digest(Words)]
    for name in ("span_decode.py", "search.py", "common.py", "options.py"):
        with (folder / name).open("a") as handle:
            handle.write("\n# changed\n")
        digests.append(cache._code_digest(Words))
    assert len(set(digests)) == 5
    assert cache._code_digest(Features) != digests[-1], "a kind that lives elsewhere counts with its own file"


@pytest.mark.parametrize("mode", ["mine", "nearest"])
def test_retrieval_is_encoded_in_parts_although_queries_come_before_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    import msgspec

    from adapters_xling.tasks import kinds
    from adapters_xling.tasks.examples import RetrieveExample
    from tests.unit.tiny import tiny_tokenizer

    monkeypatch.setattr(cache, "CHUNK", 10)
    number = 25
    rows = [RetrieveExample(id=f"q{i}", text=f"cat {i}", side="query", matches=(f"c{i}",)) for i in range(number)]
    rows += [RetrieveExample(id=f"c{i}", text=f"Hund {i}", side="corpus") for i in range(number)]
    kind, task = kinds.get("retrieve"), tasks.get("bucc2018")
    task = msgspec.structs.replace(task, options={"mode": mode})
    found = tasks.features(kind, rows, tiny_tokenizer(), task, max_length=16, cache_dir=tmp_path)
    assert plain(found) == plain(kind.encode(rows, tiny_tokenizer(), task, max_length=16))
    predictions = kind.decode(kind.gold_outputs(found, rows, task), found, rows, task)
    assert [p.value[0][0] for p in predictions] == [f"c{i}" for i in range(number)]


# --- several threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mini-nli", "mini-choice", "mini-pos", "mini-qa", "mini-mlm"])
def test_the_file_is_the_same_whatever_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from adapters_xling.tasks import encoding, kinds
    from tests.unit.tiny import tiny_tokenizer

    monkeypatch.setattr(cache, "CHUNK", 7)
    task, seen = tasks.get(name), set()
    rows, kind = tasks.load(task, "train", "en", limit=60).examples, kinds.get(task.kind)
    encode = type(kind).encode

    def noted(self: Any, *args: Any, **more: Any) -> Any:
        seen.add(threading.current_thread().name.partition("_")[0])
        return encode(self, *args, **more)

    monkeypatch.setattr(type(kind), "encode", noted)
    files = []
    for threads in (1, 3):
        monkeypatch.setattr(encoding, "num_threads", lambda threads=threads: threads)
        folder = tmp_path / str(threads)
        found = tasks.features(kind, rows, tiny_tokenizer(), task, max_length=48, cache_dir=folder)
        files += [file.read_bytes() for file in folder.rglob("*.safetensors")]
        assert seen == ({"MainThread"} if threads == 1 else {"MainThread", "encode"})
        assert found[-1].example == len(rows) - 1
    assert len(files) == 2 and files[0] == files[1]


class Failing(Words):
    """Cannot encode the 20th example."""

    def encode(self, examples: Sequence[Any], tokenizer: Any, task: Any, *, max_length: int) -> list[Features]:
        if any(example.id == "20" for example in examples):
            raise ConfigError("example 20 has no words")
        time.sleep(0.002)
        return super().encode(examples, tokenizer, task, max_length=max_length)


def test_what_one_thread_raises_ends_the_others_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling.tasks import encoding

    monkeypatch.setattr(cache, "CHUNK", 5)
    monkeypatch.setattr(encoding, "num_threads", lambda: 2)
    kind = Failing()
    with pytest.raises(ConfigError, match="example 20 has no words"):
        tasks.features(kind, examples(5000), Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    assert kind.num_encoded < 4000  # what had not begun was not begun
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("given", [None, "true"])
def test_the_library_takes_one_thread_a_call_unless_its_user_says_more(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters_xling.tasks import encoding

    name = "TOKENIZERS_PARALLELISM"
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    seen = []

    def encode(rows: Sequence[Any]) -> list[Features]:
        seen.append(os.environ.get(name))
        return [Features(i, [[1]]) for i, _ in enumerate(rows)]

    encoding.encoded(encode, examples(3), chunk=2, name="x", threads=1)
    assert seen == [given or "false"] * 2
    assert os.environ.get(name) == given


@pytest.mark.parametrize("after", [0.0, 60.0])
def test_a_bar_is_shown_on_terminals_when_it_takes_long(after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters_xling.tasks import encoding

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(stream: io.StringIO) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        encoding.encoded(
            lambda rows: [Features(i, [[1]]) for i, _ in enumerate(rows)], examples(9), chunk=2, name="x", threads=1
        )
        return stream.getvalue()

    monkeypatch.setattr(encoding, "BAR_AFTER_S", after)
    assert ("encode x" in shown(Terminal())) is (after == 0)
    assert shown(io.StringIO()) == ""


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_file_is_built_again_with_a_warning(tmp_path: Path, damage: str) -> None:
    rows, kind = examples(20), Words()
    before = plain(tasks.features(kind, rows, Tokenizer(), TASK, max_length=9, cache_dir=tmp_path))
    (file,) = tmp_path.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(
        {"truncate": bytes(content[:-9]), "flip": bytes(content), "empty": b"", "text": b"not a tensor at all"}[damage]
    )
    with pytest.warns(UserWarning, match=r"damaged cache file .* built again"):
        after = plain(tasks.features(kind, rows, Tokenizer(), TASK, max_length=9, cache_dir=tmp_path))
    assert after == before and kind.num_encoded == 40
    tasks.features(kind, rows, Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    assert kind.num_encoded == 40


def test_a_full_disk_is_a_warning_and_the_features_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    cached = plain(tasks.features(Words(), examples(9), Tokenizer(), TASK, max_length=9, cache_dir=tmp_path / "a"))
    monkeypatch.setattr(cache, "_write", full)
    with pytest.warns(UserWarning, match=r"cannot be cached .*No space left.* XLING_CACHE"):
        found = tasks.features(Words(), examples(9), Tokenizer(), TASK, max_length=9, cache_dir=tmp_path / "b")
    assert plain(found) == cached


def test_a_failed_write_leaves_no_part_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError(5, "broken")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.warns(UserWarning, match="broken"):
        tasks.features(Words(), examples(3), Tokenizer(), TASK, max_length=9, cache_dir=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


RACE = """
import sys, pathlib; sys.path.insert(0, sys.argv[1])
import numpy as np
from adapters_xling.tasks import cache
arrays = {"tokens": np.arange(100000, dtype="<i4"), "example": np.arange(5, dtype="<i8")}
for _ in range(20):
    cache._write(pathlib.Path(sys.argv[2]), arrays)
    assert cache._open(pathlib.Path(sys.argv[2]))["tokens"][-1] == 99999
"""


def test_two_processes_that_write_the_same_file_leave_a_whole_one(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    both = [subprocess.Popen([sys.executable, "-c", RACE, ".", str(file)]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
