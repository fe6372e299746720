"""Retrieval end to end on the nano backbone: layers from one pass, a killed run that goes on, a threshold from dev."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from worlds import HIDDEN, LAYERS, a_run, inputs, train_entry

from adapters_xling import inference, metrics, tasks
from adapters_xling.backbones import BACKBONES
from adapters_xling.cli import main
from adapters_xling.errors import ConfigError, Held, MissingData, UnknownName
from adapters_xling.evaluation import Reading, evaluate
from adapters_xling.model import backbone, bare, open_entry
from adapters_xling.model.core import Model, pool
from adapters_xling.sweep import LayerSweep, layers
from adapters_xling.tasks.kinds.vectors import VectorFile, unit
from adapters_xling.zoo import Zoo

MINI = "mini-retrieval"


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo")


def sweep(folder: Path, **options: Any) -> LayerSweep:
    fields = {"languages": ["de", "sw"], "limit": 40, "device": "cpu", **options}
    return layers("xlmr-nano", tasks.get(MINI), zoo=Zoo(folder / "zoo"), runs_dir=folder, **fields)


def score(folder: Path, task: Any = None, **options: Any) -> list[Any]:
    fields = {"languages": ["de"], "limit": 40, "device": "cpu", **options}
    return evaluate("xlmr-nano", task or tasks.get(MINI), zoo=Zoo(folder / "zoo"), runs_dir=folder, **fields)


# --- layers and pooling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["base", "pfeiffer", "lora", "prefix"])
def test_one_pass_gives_every_hidden_state(case: str, backbone_folder: Path, zoo: Zoo) -> None:
    if case == "base":
        model = bare(str(backbone_folder))
    else:
        entry, _ = train_entry(a_run(case, backbone_folder), zoo)
        model = open_entry(entry.key, zoo=zoo)
    with torch.no_grad():
        states = list(model.all_layers(inputs()))
        assert len(states) == LAYERS + 1
        for layer, state in enumerate(states):
            assert torch.equal(state, model.encode(inputs(), layer=layer))


def test_the_mean_of_the_text_leaves_its_special_tokens_out(backbone_folder: Path) -> None:
    model = bare(str(backbone_folder))
    hidden = torch.randn(3, 5, HIDDEN, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    found = model.sentence_vectors(hidden, mask, "mean-text")
    by_hand = torch.stack([hidden[0, 1:4].mean(0), hidden[1, 1], torch.zeros(HIDDEN)])
    assert torch.allclose(found, by_hand, atol=1e-6)
    assert torch.equal(model.sentence_vectors(hidden, mask, "mean"), pool(hidden, mask, "mean"))
    assert torch.equal(model.sentence_vectors(hidden, mask, "first"), hidden[:, 0])


def test_what_is_set_goes_before_the_task_and_the_task_before_the_backbone(backbone_folder: Path) -> None:
    model = bare(str(backbone_folder))
    plain = tasks.get(MINI)
    own = msgspec.structs.replace(plain, options={**plain.options, "layer": 0, "pooling": "first"})
    assert model.sentences_at(plain) == (model.row.retrieval_layer, "mean")
    assert model.sentences_at(own) == (0, "first")
    model.read_sentences_at(layer=LAYERS, pooling="mean-text")
    assert model.sentences_at(own) == (LAYERS, "mean-text")
    with pytest.raises(ConfigError, match=rf"layer {LAYERS + 1}: .* hidden states 0 \(embeddings\) to {LAYERS}"):
        model.read_sentences_at(layer=LAYERS + 1)
    with pytest.raises(UnknownName, match="Did you mean 'first'"):
        model.read_sentences_at(pooling="frist")
    model.read_sentences_at()
    with pytest.raises(ConfigError, match=r"options\.layer is 9, .*--layer"):
        model.sentences_at(msgspec.structs.replace(plain, options={"layer": 9}))


def test_a_sweep_gives_what_evaluating_layer_by_layer_gives_and_encodes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences = [0] * 9
    encode = Model.encode

    def counted(self: Model, batch: Any, start_layer: int = 0, hidden: Any = None, *, layer: int | None = None) -> Any:
        for at in range(start_layer + (hidden is not None), (layer or 0) + 1):
            sentences[at] += len(batch["input_ids"])
        return encode(self, batch, start_layer, hidden, layer=layer)

    monkeypatch.setattr(Model, "encode", counted)
    found = sweep(tmp_path)
    monkeypatch.undo()
    num_rows = sum(len(tasks.load(tasks.get(MINI), "dev", code, limit=40)) for code in ("de", "sw"))
    num_layers = len(found.means) - 1
    assert sentences[: num_layers + 1] == [num_rows] * (num_layers + 1)
    assert found.num_queries == {"de": 40, "sw": 40}
    for layer in range(num_layers + 1):
        scores = score(tmp_path, split="dev", languages=["de", "sw"], reading=Reading(layer=layer))
        one = {s.language: s.value for s in scores if s.metric == found.metric}
        assert {code: found.values[code][layer] for code in one} == pytest.approx(one)
        assert found.means[layer] == pytest.approx(sum(one.values()) / 2)
    assert found.best == found.means.index(max(found.means))
    assert found.configured == BACKBONES["xlmr-nano"].retrieval_layer
    assert len(set(found.means)) > 2
    # kept: nothing is encoded again, and no vectors lie about
    monkeypatch.setattr(inference, "write_vectors", None)
    again = sweep(tmp_path)
    assert again.values == found.values
    assert (found.num_scored, again.num_scored) == (2, 0)
    assert not list(tmp_path.rglob("*.f32"))


def test_vectors_that_other_blocks_were_written_to_are_continued_at_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with many entries (small blocks), then one of them alone (large ones), then together again."""
    task, rows, width = tasks.get(MINI), 30, 4
    given = [np.eye(width, dtype=np.float32)[i % width] + i / rows for i in range(rows)]

    class Killed(Exception):
        pass

    class Stub:
        hidden_size, device = width, torch.device("cpu")

        def eval(self) -> None:
            pass

    @dataclass(frozen=True)
    class Features:
        place: int
        num_tokens: int = 1

    class Ready:
        def __init__(self, part: list[Features]) -> None:
            self.inputs = {"place": [one.place for one in part]}

    monkeypatch.setattr(inference, "ready", lambda models, task, part, **how: Ready(part))
    features: Any = [Features(i) for i in range(rows)]

    def run(names: str, size: int, upto: int = rows) -> None:
        monkeypatch.setattr(inference, "MAX_BLOCK_ROWS", size)
        files = [
            VectorFile.open(tmp_path / name, rows=rows, width=width, identity="x", dtype="float32") for name in names
        ]
        left = [upto]

        def read(batch: Any) -> list[torch.Tensor]:
            if left[0] <= 0:
                raise Killed
            left[0] -= len(batch["place"])
            return [torch.tensor(np.stack([given[i] for i in batch["place"]])) for _ in files]

        try:
            stub: Any = Stub()
            inference.write_vectors(stub, task, features, files, read)
        except Killed:
            pass
        finally:
            for file in files:
                np.testing.assert_allclose(
                    file.read(0, file.num_done), unit(np.stack(given))[: file.num_done], atol=1e-6
                )
                file.close()

    run("ab", 5, upto=10)
    run("a", 8, upto=8)
    run("ab", 5, upto=5)
    run("ab", 5)
    for name in "ab":
        file = VectorFile.open(tmp_path / name, rows=rows, width=width, identity="x", dtype="float32")
        assert file.num_done == rows
        file.close()


def test_what_a_sweep_finds_at_the_configured_layer_is_an_evaluation_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same files as `evaluate` writes, apart from time; another pooling or type of vectors is not kept as one."""
    kept = Path("scores") / "xlmr-nano" / MINI
    for options in ({"pooling": "first"}, {"vectors": "float16"}):
        sweep(tmp_path / "other", **options)
    assert [path.name for path in (tmp_path / "other" / kept).glob("*.json")] != []
    assert not list((tmp_path / "other" / kept).glob("dev-*"))
    found = sweep(tmp_path / "swept", pooling="mean")  # said, and what is meant when nothing is said
    score(tmp_path / "alone", split="dev", languages=["de", "sw"])
    names = sorted(path.name for path in (tmp_path / "alone" / kept).iterdir())
    assert len(names) == 2 * 3
    for name in names:
        one, other = (tmp_path / folder / kept / name for folder in ("alone", "swept"))
        if not name.endswith("-first40.json"):
            assert one.read_bytes() == other.read_bytes()
            continue
        ours, swept = (json.loads(path.read_text()) for path in (one, other))
        assert ours.pop("timing")["seconds"] > 0 and swept.pop("timing") is None
        assert ours.pop("measured") and swept.pop("measured")
        assert ours == swept
    monkeypatch.setattr(inference, "write_vectors", None)  # nothing is encoded
    scores = score(tmp_path / "swept", split="dev", languages=["de", "sw"])
    assert [s.value for s in scores if s.metric == found.metric] == [
        found.values[c][found.configured] for c in ("de", "sw")
    ]
    assert sorted(path.name for path in (tmp_path / "swept" / kept).iterdir() if path.is_dir()) == []


def test_settings_of_retrieval_have_files_of_their_own_and_mean_nothing_elsewhere(tmp_path: Path) -> None:
    plain = score(tmp_path)
    half = score(tmp_path, reading=Reading(vectors="float16"))
    first = score(tmp_path, reading=Reading(layer=0, pooling="first"))  # one vector for all: the embedding of <s>
    assert [s.value for s in half] == pytest.approx([s.value for s in plain], abs=3)
    assert max(s.value for s in first if s.metric == "accuracy") < 10 < min(s.value for s in plain)
    names = {path.name for path in (tmp_path / "scores" / "xlmr-nano" / MINI).glob("*.json")}
    assert names == {f"test-de-first40{suffix}.json" for suffix in ("", "-float16", "-layer0-first")}
    shipped = next(entry for entry in Zoo(tmp_path / "zoo").find(task="mini-nli"))
    with pytest.raises(ConfigError, match="settings of retrieval; task 'mini-nli'"):
        evaluate(
            shipped.key,
            tasks.get("mini-nli"),
            zoo=Zoo(tmp_path / "zoo"),
            runs_dir=tmp_path,
            reading=Reading(layer=1),
        )


def test_the_command_shows_the_sweep_and_never_chooses_on_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--languages", "de", "--limit", "20", "--runs", str(tmp_path), "--device", "cpu"]
    main(["layers", MINI, *common, "--json"])
    found = json.loads(capsys.readouterr().out)
    main(["layers", MINI, *common])
    text = capsys.readouterr().out
    assert f"best on dev: layer {found['best']} " in text
    assert "never on test" in text
    assert all(f"{mean:.1f}" in text for mean in found["means"])
    main(["layers", MINI, *common, "--split", "test"])
    text = capsys.readouterr().out
    assert "do not choose" in text
    assert "best" not in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["mini-nli"], "of kind 'sentence'"),
        (["tatoeba"], "no dev split.*--split test"),
        ([MINI, "--on", "x", "--backbone", "xlmr-nano"], "not both: an entry brings its backbone"),
        ([MINI, "--grid", "quickstart", "--backbone", "xlmr-nano"], "not both: a grid brings"),
        ([MINI, "--pooling", "cls"], "Known .3.: first, mean, mean-text"),
        (["mini-retrievl"], "Did you mean 'mini-retrieval'"),
        ([MINI, "--languages", "dd"], "Known .7.: de"),
    ],
)
def test_a_sweep_that_cannot_be_says_why(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["layers", *args, "--runs", str(tmp_path)])
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_entry_on_ones_own_backbone_is_swept_where_its_folder_is_named(
    backbone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process that has not seen the folder yet; each of two messages sent the user to the other."""
    entry, _ = train_entry(a_run("lora", backbone_folder), Zoo(tmp_path / "zoo"))
    monkeypatch.setattr(backbone, "_seen", {})
    words = ["layers", MINI, "--on", entry.key, "--languages", "de", "--limit", "8", "--runs", str(tmp_path), "--json"]
    with pytest.raises(SystemExit):
        main(words)
    assert "Name its folder as `backbone`" in capsys.readouterr().err
    main([*words, "--backbone", str(backbone_folder)])
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == entry.key and len(found["means"]) == LAYERS + 1


AT_WORK = """
import json, sys, time
from pathlib import Path
from adapters_xling import tasks
from adapters_xling.sweep import layers
from adapters_xling.zoo import Zoo
folder = Path(sys.argv[1])
def step(*_):
    if not (folder / "go").exists():
        (folder / "begun").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
found = layers("xlmr-nano", tasks.get("mini-retrieval"), zoo=Zoo(folder / "zoo"), runs_dir=folder, device="cpu",
               languages=["de", "sw"], limit=40, on_step=step, wait=True)
print(json.dumps([found.num_scored, found.values]))
"""


def test_two_processes_share_a_sweep_and_score_nothing_twice(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", AT_WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        while not (tmp_path / "begun").exists():
            assert child.poll() is None
            time.sleep(0.05)
        with pytest.raises(Held, match=r"layers-dev-de-first40-mean\.work: another process is at work"):
            sweep(tmp_path)
        (tmp_path / "go").touch()
        mine = sweep(tmp_path, wait=True)
        num_scored, values = json.loads(child.communicate(timeout=300)[0])
    finally:
        child.kill()
    assert num_scored + mine.num_scored == 2
    assert {code: tuple(line) for code, line in values.items()} == mine.values
    assert not list(tmp_path.rglob("*.work"))


# --- mining -----------------------------------------------------------------------------------------------------

MINED = """
name: mined
kind: retrieve
role: private
title: Two small pools
languages: [de]
train_languages: []
metrics: [mining_f1]
options: {mode: mine}
sources:
  - type: files
    reader: bitext
    splits:
      dev: [dev.de, dev.en, dev.gold]
      test: [test.de, test.en, test.gold]
"""


def pools(folder: Path) -> Any:
    """Mini sentences as BUCC lays them out: every second English one is replaced by a stranger, and its gold taken."""
    (folder / "tasks").mkdir()
    (folder / "tasks" / "mined.yaml").write_text(MINED, encoding="utf-8")
    for split in ("dev", "test"):
        rows = tasks.load(tasks.get(MINI), split, "de").examples
        text_of = {row.id: row.text for row in rows if row.side == "corpus"}
        lines: dict[str, list[str]] = {"de": [], "en": [], "gold": []}
        queries = [row for row in rows if row.side == "query"]
        for i, (row, stranger) in enumerate(zip(queries[:120], queries[120:240], strict=True)):
            partner = row if i % 2 == 0 else stranger
            lines["de"].append(f"de-{i}\t{row.text}")
            lines["en"].append(f"en-{i}\t{text_of[partner.matches[0]]}")
            if partner is row:
                lines["gold"].append(f"de-{i}\ten-{i}")
        for name, content in lines.items():
            (folder / f"{split}.{name}").write_text("\n".join(content) + "\n", encoding="utf-8")
    return tasks.get("mined", extra=folder / "tasks")


def gold_pairs(path: Path) -> set[tuple[str, ...]]:
    return {tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()}


def test_the_threshold_comes_from_dev_and_the_score_from_test(tmp_path: Path) -> None:
    task = pools(tmp_path)
    scores = {s.metric: s.value for s in score(tmp_path, task, limit=None, data_dir=tmp_path)}
    folder = tmp_path / "scores" / "xlmr-nano" / "mined"
    chosen = json.loads((folder / "test-de.json").read_text(encoding="utf-8"))["rows"]["chosen"]
    # dev by hand: mine it alone, take the best threshold of its pairs
    model = bare("xlmr-nano")
    rows = tasks.load(task, "dev", "de", data_dir=tmp_path).examples
    mined = [(p.id, *hit) for p in inference.predict(model, task, rows, max_length=512) for hit in p.value]
    gold = gold_pairs(tmp_path / "dev.gold")
    right = [(query, found) in gold for query, found, _ in mined]
    threshold, f1 = metrics.best_threshold([s for *_, s in mined], right, num_gold=len(gold))
    assert (chosen["on"], chosen["threshold"], chosen["f1"]) == ("dev", pytest.approx(threshold), pytest.approx(f1))
    assert 0 < sum(right) < len(right)
    lines = (folder / "test-de.predictions.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {(row["id"], hit[0]): hit[1] for row in map(json.loads, lines) for hit in row["value"]}
    assert min(kept.values()) >= threshold
    assert len(lines) == 120 > len(kept)
    gold = gold_pairs(tmp_path / "test.gold")
    both = len(gold & set(kept))
    assert scores == pytest.approx(
        {
            "f1": 200 * both / (len(gold) + len(kept)),
            "precision": 100 * both / len(kept),
            "recall": 100 * both / len(gold),
        }
    )
    (tmp_path / "dev.gold").unlink()
    with pytest.raises(MissingData, match=r"dev\.gold"):
        score(tmp_path, task, limit=None, data_dir=tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from adapters_xling import inference, tasks
from adapters_xling.evaluation import evaluate
from adapters_xling.zoo import Zoo
folder = Path(sys.argv[1])
inference.MAX_BLOCK_ROWS = 16
def step(language, stage, done, total):
    if (stage, total) == ("encode", 240) and done > 70:
        os.kill(os.getpid(), signal.SIGKILL)
task = tasks.get("mined", extra=folder / "tasks")
evaluate("xlmr-nano", task, zoo=Zoo(folder / "zoo"), runs_dir=folder, device="cpu", data_dir=folder, languages=["de"],
         split="dev", on_step=step)
"""


def test_a_killed_mining_goes_on_with_the_vectors_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = pools(tmp_path)
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    (vectors,) = tmp_path.rglob("*.f32")
    left = vectors.read_bytes()
    width = bare("xlmr-nano").hidden_size
    assert len(left) == 64 * width * 4
    monkeypatch.setattr(inference, "MAX_BLOCK_ROWS", 16)
    steps: list[tuple[str, str, int, int]] = []
    removed: list[bytes] = []
    keep = inference.VectorFile.close
    monkeypatch.setattr(
        inference.VectorFile, "close", lambda self: (removed.append(self.path.read_bytes()), keep(self))[1]
    )
    options = {"limit": None, "data_dir": tmp_path, "split": "dev"}
    found = score(tmp_path, task, **options, on_step=lambda *step: steps.append(step))
    assert steps[0] == ("de", "encode", 64, 240)
    assert ("de", "encode", 240, 240) in steps
    assert steps[-1] == ("de", "search", 120, 120)
    assert not list(tmp_path.rglob("*.work"))
    again = score(tmp_path / "fresh", task, **options)
    assert removed[0] == removed[1]
    assert removed[0].startswith(left)
    assert found == again


def test_a_score_says_at_which_layer_and_in_which_precision_it_was_read(tmp_path: Path) -> None:
    plain, lower, rounded = (
        {(one.layer, one.precision) for one in score(tmp_path, **how)}
        for how in ({}, {"reading": Reading(layer=1)}, {"precision": "bf16"})
    )
    assert (plain, lower, rounded) == ({(None, "fp32")}, {(1, "fp32")}, {(None, "bf16")})
    (file,) = (tmp_path / "scores").rglob("test-de-first40-bf16.json")
    body = json.loads(file.read_text())
    for one in body["scores"]:
        one.pop("precision", None)
    file.write_text(json.dumps(body))
    assert {one.precision for one in score(tmp_path, precision="bf16")} == {"bf16"}, "of before it was said"
