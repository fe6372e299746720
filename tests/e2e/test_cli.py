"""The command line as a person uses it: what works, what is refused, what survives."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.cli import _COMMANDS, main
from adapters_xling.cli.train import PREDICTION
from adapters_xling.errors import XlingError

SHORT = ["--with", "max_steps=6", "--with", "eval_every_steps=3", "--with", "dev_examples=20", "--quiet"]


def xling(*args: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in this process; returns exit code, output, errors."""
    code = 0
    try:
        main(list(args))
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, out.out, out.err


def test_help_answers_in_under_300_ms_and_names_every_command() -> None:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "adapters_xling.cli", "--help"], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
    assert done.returncode == 0
    assert all(command in done.stdout for command in _COMMANDS)
    assert statistics.median(seconds) < 0.3 or min(seconds) < 0.3, seconds


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_explains_itself_without_torch(command: str) -> None:
    script = (
        "import sys\nfrom adapters_xling.cli import main\n"
        f"main([{command!r}, '--help'])\nassert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_a_warning_is_a_note_without_a_place_in_the_code(tmp_path: Path) -> None:
    (tmp_path / "recipes.yaml").write_text("{}\n")
    command = [sys.executable, "-m", "adapters_xling.cli", "tasks", "--tasks", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.startswith(f"note: {tmp_path}/recipes.yaml is not read: ")
    assert done.stderr.count("\n") == 1 and "Warning" not in done.stderr


MISSPELT = [
    "train mini-nly",
    "train mini-nli --method loar",
    "train mini-nli --backbone xlmr-nanno",
    "train mini-nli --recipe nanoo",
    "train mini-ner --warm mini-nli-botleneck",
    "train mini-ner --on average(mini-nli-botleneck,slot)",
    "adapt mini-nli-botleneck rows.tsv --language sw",
    "adapt mini-nli-bottleneck rows.tsv --language sw --recipe nanoo",
    "choose mini-nli-botleneck mini-nli slot base",
    "choose mini-nli-bottleneck mini-nly slot base",
    "predict mini-nli-botleneck one two",
    "predict mini-nli-bottleneck one two --task mini-nly",
    "evaluate mini-nli-botleneck mini-nli",
    "evaluate mini-nli-bottleneck mini-nly",
    "export mini-nli-botleneck --to there",
    "import ./nothing --backbone xlmr-nanno",
    "import ./nothing --backbone xlmr-nano",
    "layers mini-retrievl",
    "zoo merge average(mini-nli-botleneck,mini-pos-bottleneck)",
    "zoo advise --target mini-nly",
    "zoo advise --target mini-nli --method loar",
]


def test_misspelt_names_are_refused_before_a_deep_learning_library_is_loaded(tmp_path: Path) -> None:
    code = f"""
import sys
from adapters_xling.cli import main
for line in {MISSPELT!r}:
    try:
        main(line.split())
    except SystemExit as stop:
        assert stop.code == 2, line
    else:
        raise AssertionError(line)
    assert "torch" not in sys.modules, f"{{line}}: torch was imported"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(MISSPELT) and done.stderr.count("Did you mean") == len(MISSPELT) - 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "mini-pso"], "Did you mean 'mini-pos'"),
        (["train", "mini-pos", "--method", "loar"], "Did you mean 'lora'"),
        (["train", "mini-pos", "--mix", "uniform"], "two tasks or more"),
        (["train", "mini-pos", "mini-nli", "--mix", "unifrom"], "Did you mean 'uniform'"),
        (["train", "mini-pos", "mini-nli", "--rate", "mini-ner=0.5"], "unknown task with a rate 'mini-ner'"),
        (["train", "mini-pos", "--checkpoint-every", "often"], "give a time or a number of steps"),
        (["train", "mini-pos", "--method", "lora", "--set", "ranc=4"], "unknown setting of method 'lora' 'ranc'"),
        (["train", "mini-pos", "--method", "lora", "--set", "r=0"], "valid is a rank of 1 or more"),
        (["train", "mini-pos", "--with", "learning_rat=1"], "Did you mean 'learning_rate'"),
        (["train", "mini-pos", "--with", "batch_size=many"], "batch_size"),
        (["train", "mini-pos", "--recipe", "papre"], "Did you mean 'paper'"),
        (["train", "mini-pos", "--backbone", "xlmr-nanno"], "Did you mean 'xlmr-nano'"),
        (["train", "mini-pos", "--warm", "a-b", "--stack", "c-d"], "give one of --warm, --stack and --on"),
        (["train", "mini-retrieval"], "nothing to train"),
        (["train", "mini-pos", "--set", "r"], "name=value"),
        (["evaluate", "nothing-here", "mini-pos"], "nothing-here"),
        (["evaluate", "xlmr-nano", "mini-pos"], "has no heads"),
        (["evaluate", "xlmr-nano", "mini-retrieval", "--languages", "dd"], "Known (7): de"),
        (["predict", "nothing-here"], "give either the texts"),
        (["predict", "mini-nli-bottleneck", "one sentence"], "has one text, task 'mini-nli' is about two"),
        (["run", "quikstart"], "Did you mean 'quickstart'"),
        (["run", "absent.yaml"], "does not exist"),
        (["run", "quickstart", "--methods", "loar"], "Did you mean 'lora'"),
        (["run", "quickstart", "--languages", "xx"], "unknown language of this grid's targets 'xx'"),
        (["train", "mini-pos", "--with", "batch_size=[1"], "is not a value"),
        (["train", "mini-pos", "--with", "learning_rate=.inf"], "give a number"),
        (["train", "mini-pos", "--seed", "-1"], "--seed"),
        (["run", "quickstart", "--seeds", "a"], "whole numbers"),
        (["report", "quickstart"], "run the grid first"),
        (["zoo", "show", "nothing-here"], "nothing-here"),
        (["zoo", "verify"], "--all"),
        (["tasks", "check", "mini-pos", "--data-dir", "/does/not/exist"], "does not exist"),
    ],
)
def test_a_mistake_is_one_message_with_a_way_out(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = xling(*args, capsys=capsys)
    assert code == 2
    assert words in err


@pytest.mark.parametrize(
    ("command", "verb", "option", "words"),
    [
        ("adapt", "adapt", "labels", ["mini-nli-bottleneck", "a.csv", "--language", "sw", "--label"]),
        ("adapt", "adapt", "columns", ["mini-nli-bottleneck", "a.csv", "--language", "sw", "--columns"]),
        ("submission", "build_submission", "use", ["build", "runs", "--out", "out", "--use"]),
    ],
)
@pytest.mark.parametrize("name", ["no", "00123", "4e836512", "[a"])
def test_names_are_taken_as_they_are_written(
    command: str,
    verb: str,
    option: str,
    words: list[str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def instead(*args: Any, **given: Any) -> None:
        raise XlingError(f"{option}: {given[option]}")

    monkeypatch.setattr(f"adapters_xling.api.{verb}", instead)
    code, _, err = xling(command, *words, f"x={name}", capsys=capsys)
    assert code == 2 and f"{option}: {{'x': {name!r}}}" in err


def test_several_entries_are_scored_at_once_and_one_that_cannot_be_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--languages", "de,sw", "--limit", "6")
    nli, pos = "mini-nli-bottleneck", "mini-pos-bottleneck"
    code, out, _ = xling("evaluate", nli, pos, "mini-retrieval", *options, capsys=capsys)
    assert code == 0
    lines = out.splitlines()
    assert [line.split("  ")[1] for line in lines[:4]] == ["de", "de", "sw", "sw"]
    assert [line.startswith(nli) for line in lines[:4]] == [True, False, True, False]
    assert sum("on mini-retrieval: zero-shot mean over 2 languages" in line for line in lines) == 2

    code, out, err = xling("evaluate", nli, pos, "mini-nli,mini-retrieval", *options, "--json", capsys=capsys)
    assert code == 2
    assert "has no head for task 'mini-nli'" in err
    assert f"error: not scored: {pos}" in err
    scores = json.loads(out)
    assert {(s["key"][:8], s["task"], s["language"]) for s in scores} == {
        *{("mini-nli", task, code) for task in ("mini-nli", "mini-retrieval") for code in ("de", "sw")},
        *{("mini-pos", "mini-retrieval", code) for code in ("de", "sw")},
    }
    _, alone, _ = xling("evaluate", nli, "mini-nli", *options, "--json", capsys=capsys)
    assert json.loads(alone) == [s for s in scores if s["task"] == "mini-nli"]
    assert xling("evaluate", "mini-nli", capsys=capsys)[0] == 2  # an entry or a task is missing


def test_train_evaluate_predict_verify_remove(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = xling("train", "mini-ner", "--method", "lora", *SHORT, "--json", capsys=capsys)
    assert code == 0
    first = json.loads(out)
    _, out, _ = xling("train", "mini-ner", "--method", "lora", *SHORT, "--json", capsys=capsys)
    assert json.loads(out) == first  # an entry that exists is not trained again

    _, out, _ = xling(
        "evaluate", first["key"], "mini-ner", "--languages", "sw,ru", "--limit", "20", "--json", capsys=capsys
    )
    scores = json.loads(out)
    assert {(s["language"], s["zero_shot"], s["num_examples"]) for s in scores} == {("sw", True, 20), ("ru", True, 20)}
    kept = sorted((tmp_path / "runs" / "scores").rglob("*.json"))
    for path in kept:  # what an estimate stands on
        timing = json.loads(path.read_text(encoding="utf-8"))["timing"]
        assert timing["seconds"] > 0 and (timing["device"], timing["threads"]) == ("cpu", 1)
    before = [path.stat().st_mtime_ns for path in kept]
    _, again, _ = xling(
        "evaluate", first["key"], "mini-ner", "--languages", "sw,ru", "--limit", "20", "--json", capsys=capsys
    )
    assert json.loads(again) == scores
    assert [path.stat().st_mtime_ns for path in kept] == before  # read, not computed again

    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"words": ["Anna", "sleeps", "."]}\n{"words": ["Peter", "lebt", "in", "Berlin"]}\n', encoding="utf-8"
    )
    output = tmp_path / "out.jsonl"
    assert xling("predict", first["key"], "--input", str(rows), "--output", str(output), capsys=capsys)[0] == 0
    predicted = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [len(line["prediction"]) for line in predicted] == [3, 4]

    code, out, _ = xling(
        "train", "mini-ner", "--method", "lora", *SHORT, "--warm", first["key"], "--json", capsys=capsys
    )
    child = json.loads(out)["key"]
    code, _, err = xling("zoo", "rm", first["key"], capsys=capsys)
    assert code == 2
    assert child in err  # lineage is respected
    assert xling("zoo", "verify", "--all", capsys=capsys)[0] == 0
    weights = next(Path(first["folder"]).rglob("*.safetensors"))
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    code, out, _ = xling("zoo", "verify", "--all", capsys=capsys)
    assert (code, "BROKEN" in out) == (2, True)
    code, _, err = xling("predict", first["key"], "Anna sleeps", capsys=capsys)
    assert code == 2
    assert weights.name in err
    for name in (child, first["key"]):
        assert xling("zoo", "rm", name, capsys=capsys)[0] == 0


@pytest.mark.parametrize("option", ["--input", "--requests"])
@pytest.mark.parametrize("way", ["name", "symlink", "hardlink"])
def test_predictions_do_not_take_the_place_of_the_rows(
    option: str, way: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text('{"premise": "a", "hypothesis": "b"}\n')
    if way == "name":
        (tmp_path / "folder").mkdir()
        output = tmp_path / "folder" / ".." / "rows.jsonl"
    elif way == "symlink":
        output.symlink_to(rows)
    else:
        output.hardlink_to(rows)
    entry = ["mini-nli-bottleneck"] if option == "--input" else []
    code, _, err = xling("predict", *entry, option, str(rows), "--output", str(output), capsys=capsys)
    assert code == 2 and "is the very file that is read" in err
    assert rows.read_text() == '{"premise": "a", "hypothesis": "b"}\n' == output.read_text()


def test_only_predictions_are_replaced_by_predictions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text('{"id": "7", "premise": "a"}\n{"id": "8", "prediction": "b"}\n')
    code, _, err = xling("predict", "mini-nli-bottleneck", "a", "b", "--output", str(output), capsys=capsys)
    assert code == 2 and "holds something else than this command writes" in err
    output.write_text('{"id": "8", "prediction": "b"}\n{"id": "7", "premise": "a"}\n')
    code, _, err = xling("predict", "mini-nli-bottleneck", "a", "b", "--output", str(output), capsys=capsys)
    assert code == 0, err
    (line,) = output.read_text().splitlines()
    assert re.match(PREDICTION, line) and json.loads(line)["id"] == "0"


def test_a_mixture_says_how_each_task_fared_and_asks_which_head_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["--runs", str(tmp_path)]
    tasks = ["mini-nli", "mini-pos", "mini-mlm", "--rate", "mini-mlm=0.5", "--mix", "uniform"]
    code, out, _ = xling(
        "train", *tasks, "--method", "lora", *SHORT, "--checkpoint-every", "2steps", *where, capsys=capsys
    )
    assert code == 0
    key = out.splitlines()[0]
    assert key.startswith("mini-mlm-mini-nli-mini-pos-lora-fresh-xlmr-nano-s0-")
    assert "mini-mlm: masked_accuracy" in out
    assert list((tmp_path / "checkpoints").iterdir()) == []
    code, _, err = xling("predict", key, "Anna sleeps.", *where, capsys=capsys)
    assert code == 2
    assert "name one of these tasks (--task)" in err
    assert xling("predict", key, "Anna sleeps .", "--task", "mini-pos", *where, capsys=capsys)[0] == 0


def test_compiled_passes_are_asked_for_by_an_option_and_told_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("adapters_xling.model.compiled.BACKEND", "eager")
    monkeypatch.setattr("adapters_xling.model.compiled._GRAPHS", {})
    asked = ["predict", "mini-nli-bottleneck", "Anna sleeps .", "Tom sleeps .", "--runs", str(tmp_path)]
    code, plain, err = xling(*asked, capsys=capsys)
    assert (code, "torch.compile" in err) == (0, False)
    code, quick, err = xling(*asked, "--compile", capsys=capsys)
    assert (code, quick) == (0, plain)
    assert "torch.compile: 1 graph in " in err


GRID = """
title: A small grid
backbone: xlmr-nano
recipe: nano
methods: {lora: {r: 2}}
intermediate: [none, mini-nli]
targets: [mini-pos, mini-retrieval]
overrides: {max_steps: 4, eval_every_steps: 2, dev_examples: 10}
languages: [de, sw]
"""


def grid_file(folder: Path, text: str = GRID) -> str:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_grid_runs_reports_and_trains_nothing_the_second_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    grid = grid_file(tmp_path)
    code, out, _ = xling("run", grid, "--dry-run", "--json", capsys=capsys)
    assert sorted(json.loads(out)["runs"].values()) == ["blocked"] + ["missing"] * 4  # lora ×2, warm child, 2 floors
    code, out, err = xling("run", grid, "--limit", "10", "--workers", "1", capsys=capsys)
    assert code == 0, err
    assert "trained 5" in out
    assert "nothing like it was timed here" in out
    _, after, _ = xling("run", grid, "--dry-run", "--limit", "10", capsys=capsys)
    assert "nothing to train or score" in after
    _, after, _ = xling("run", grid, "--dry-run", "--json", capsys=capsys)
    assert json.loads(after)["estimate_basis"] == "measured"  # what is left is scoring, and that was timed
    folder = tmp_path / "runs" / "small-first10"
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    cells = {(s["task"], s["method"], s["intermediate"]) for s in lines}
    assert {
        ("mini-pos", "lora", "none"),
        ("mini-pos", "lora", "mini-nli"),
        ("mini-retrieval", "lora", "mini-nli"),
    } <= cells
    assert {("mini-pos", "majority", "none"), ("mini-pos", "head", "none"), ("mini-pos", "vectors", "none")} <= cells
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "A small grid" in html
    assert (folder / "report.md").is_file()
    code, again, _ = xling("run", grid, "--limit", "10", "--workers", "1", capsys=capsys)
    assert "trained 0, reused 5" in again
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    assert "Only the first 10 rows of each set were scored." in info["info"]["notes"]
    rendered = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    folder.rename(tmp_path / "runs" / "small")
    code, out, _ = xling("report", grid, capsys=capsys)
    assert code == 0
    assert (tmp_path / "runs" / "small" / "report.html").read_bytes() == rendered


def test_two_workers_give_the_scores_of_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_file(tmp_path)
    found = []
    for workers in ("1", "2"):
        monkeypatch.setenv("XLING_RUNS", str(tmp_path / workers))
        code, _, err = xling("run", grid, "--limit", "5", "--workers", workers, capsys=capsys)
        assert code == 0, err
        found.append((tmp_path / workers / "small-first5" / "scores.jsonl").read_text(encoding="utf-8"))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("methods: {lora: {r: 2}}", "methods: {full: {}}\ntransfer: [stack]"), "cannot Stack"),
        (("targets: [mini-pos, mini-retrieval]", "targets: [mini-ops]"), "Did you mean 'mini-pos'"),
        (("intermediate: [none, mini-nli]", "intermediate: [none, mini-nil]"), "Did you mean 'mini-nli'"),
        (("title: A small grid", "tittle: x"), "tittle is not a field"),
        (("max_steps: 4", "max_step: 4"), "Did you mean 'max_steps'"),
        (("languages: [de, sw]", "languages: [de, fr]"), "'fr'"),
        (("recipe: nano", "recipe: nano: x"), "not valid YAML"),
    ],
)
def test_an_illegal_grid_fails_before_anything_trains(
    change: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = xling("run", grid_file(tmp_path, GRID.replace(*change)), "--workers", "1", capsys=capsys)
    assert code == 2
    assert words in err
    assert not (tmp_path / "runs" / "zoo").exists()


def test_a_failed_run_blocks_its_children_and_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = GRID.replace("lora: {r: 2}", "lora: {r: 2}, full: {}").replace(
        "dev_examples: 10", "dev_examples: 10, clip_norm: 0"
    )
    grid = grid_file(tmp_path, text)
    from adapters_xling.training import loop

    original = loop.Loop.run_to_end

    def fails_for_lora_on_nli(self: Any, **how: Any) -> None:
        if self.run.method.name == "lora" and self.run.task == "mini-nli":
            raise RuntimeError("planted failure")
        original(self, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "run_to_end", fails_for_lora_on_nli)
        code, out, err = xling("run", grid, "--limit", "5", "--workers", "1", capsys=capsys)
    assert code == 2
    assert "planted failure" in err
    assert "blocked: its parent" in err
    scores = (tmp_path / "runs" / "small-first5" / "scores.jsonl").read_text(encoding="utf-8")
    assert '"method":"full","init":"warm"' in scores
    code, out, _ = xling("run", grid, "--limit", "5", "--workers", "1", capsys=capsys)
    assert code == 0
    assert "trained 2" in out  # only what was missing


def test_a_killed_grid_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = grid_file(tmp_path)
    command = [sys.executable, "-m", "adapters_xling.cli", "run", grid, "--limit", "5", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    zoo = tmp_path / "runs" / "zoo"
    deadline = time.monotonic() + 120
    while not list(zoo.glob("*/card.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.kill()
    process.wait()
    whole = {path.parent.name for path in zoo.glob("*/card.json")}
    assert xling("zoo", "verify", "--all", capsys=capsys)[0] == 0
    code, out, err = xling("run", grid, "--limit", "5", "--workers", "1", capsys=capsys)
    assert code == 0, err
    assert f"trained {5 - len(whole)}, reused {len(whole)}" in out
    assert xling("zoo", "gc", capsys=capsys)[0] == 0
