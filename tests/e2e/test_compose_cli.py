"""Compositions on the command line, over the entries that ship: merged, evaluated, trained on, predicted with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_cli import SHORT, xling

NER, CHOICE = "mini-ner-lora-fresh-xlmr-nano-s7", "mini-choice-lora-fresh-xlmr-nano-s7"
NLI, POS = "mini-nli-bottleneck-fresh-xlmr-nano-s7", "mini-pos-bottleneck-fresh-xlmr-nano-s7"
SENTENCE = "Tom bought a hat on Tuesday ."


def scores(runs: Path, *args: str, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, float]]:
    code, out, err = xling("evaluate", *args, "--limit", "30", "--json", "--runs", str(runs), capsys=capsys)
    assert code == 0, err
    rows = json.loads(out)
    main = rows[0]["metric"]
    return {row["language"]: (row["route"], row["value"]) for row in rows if row["metric"] == main}


def test_a_merge_is_kept_and_is_the_average_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merge = ("zoo", "merge", f"average({NER}:0.3, {CHOICE}:0.7)", "--runs", str(tmp_path))
    code, out, err = xling(*merge, "--backbone", "xlmr-nano", capsys=capsys)
    assert code == 0, err
    key = out.split()[0]
    assert "exact: rank" in out and f"heads and pooler of {NER}" in out
    kept = scores(tmp_path, key, "mini-ner", "--languages", "en,sw", capsys=capsys)
    beside = f"average(slot:0.3, {CHOICE}:0.7)"
    routed = scores(tmp_path, NER, "mini-ner", "--languages", "en,sw", "--on", beside, capsys=capsys)
    assert routed["en"][0] == "average 0.3 0.7" and kept["en"][0] == "slot"
    assert {code: value for code, (_, value) in kept.items()} == {code: value for code, (_, value) in routed.items()}
    own = scores(tmp_path, NER, "mini-ner", "--languages", "en,sw", capsys=capsys)
    assert own["en"][1] > kept["en"][1]  # 0.3 of what was trained is not what was trained
    again = xling(*merge, capsys=capsys)
    assert again[0] == 0 and again[1].split()[0] == key
    code, out, _ = xling("zoo", "verify", key, "--runs", str(tmp_path), capsys=capsys)
    assert code == 0 and out.startswith("ok")


def test_each_language_may_stand_on_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = scores(tmp_path, NER, "mini-ner", "--languages", "en,de,sw", capsys=capsys)
    on = ("--on", "base", "--on", "de=slot", "--on", f"sw=average(slot, {CHOICE})")
    mixed = scores(tmp_path, NER, "mini-ner", "--languages", "en,de,sw", *on, capsys=capsys)
    assert {code: route for code, (route, _) in mixed.items()} == {
        "en": "base",
        "de": "use",
        "sw": "average",
    }
    assert mixed["de"][1] == own["de"][1]
    assert mixed["en"][1] < own["en"][1]
    kept = sorted(path.name for path in (tmp_path / "scores").iterdir())
    assert len(kept) == 4 and sum("-on-" in name for name in kept) == 3


def test_a_run_stands_on_an_average_and_a_fusion_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on = f"average({NLI}:0.7, {POS}:0.3)"
    short = ("mini-ner", "--method", "bottleneck", "--set", "reduction_factor=2", *SHORT, "--runs", str(tmp_path))
    for text, form in ((on, "stack"), (f"fuse({NLI}, {POS})", "fuse")):
        code, out, err = xling("train", *short, "--on", text, capsys=capsys)
        assert code == 0, err
        key = out.split()[0]
        code, out, _ = xling("zoo", "show", key, "--json", "--runs", str(tmp_path), capsys=capsys)
        card = json.loads(out)
        assert card["run"]["route"]["type"] == form
        assert [parent.rpartition("-")[0] for parent in card["parents"]] == [NLI, POS]
        code, out, err = xling("predict", key, SENTENCE, "--json", "--runs", str(tmp_path), capsys=capsys)
        assert code == 0 and len(json.loads(out)["prediction"]) == len(SENTENCE.split()), err


def test_a_run_starts_from_a_merge_with_its_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = xling(
        "train", "mini-pos", "--method", "lora", "--warm", f"arithmetic(+{NER}, -{CHOICE}:0.5)", *SHORT,
        "--runs", str(tmp_path), capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert out.startswith("mini-pos-lora-arithmetic-")
    code, out, _ = xling("zoo", "show", out.split()[0], "--json", "--runs", str(tmp_path), capsys=capsys)
    assert json.loads(out)["run"]["method"]["settings"]["r"] == 16


def test_language_adapters_are_trained_on_raw_text_and_swapped_at_test_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MAD-X: an invertible language adapter under a task adapter, another one for another language."""
    runs = ("--runs", str(tmp_path))
    invertible = ("--method", "bottleneck", "--set", "reduction_factor=2", "--set", "inv_adapter=nice", *SHORT, *runs)
    for code in ("en", "sw"):
        assert xling("train", f"mini-mlm.{code}", *invertible, capsys=capsys)[0] == 0
    task = ("mini-ner", "--method", "bottleneck", "--set", "reduction_factor=2", *SHORT, *runs)
    code, out, err = xling("train", *task, "--on", "mini-mlm-en-bottleneck", capsys=capsys)
    assert code == 0, err
    key = out.split()[0]
    swap = ("--on", "stack(mini-mlm-{language}-bottleneck, alone(slot))")
    own = scores(tmp_path, key, "mini-ner", "--languages", "en,sw", capsys=capsys)
    swapped = scores(tmp_path, key, "mini-ner", "--languages", "en,sw", *swap, capsys=capsys)
    assert own["en"][0] == "stack" and swapped["sw"][0] == "stack(alone)"
    assert own["en"][1] == swapped["en"][1]
    code, _, err = xling("evaluate", key, "mini-ner", "--languages", "en,de", *swap, *runs, capsys=capsys)
    assert code == 2 and "unknown entry 'mini-mlm-de-bottleneck'" in err and err.rstrip().endswith("^")


def test_a_choice_is_made_on_one_half_and_checked_on_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--runs", str(tmp_path), "--languages", "en,sw", "--limit", "60")
    code, out, err = xling(
        "choose", NER, "mini-ner", "base", "slot", f"average(slot, {CHOICE})", *runs, "--json", capsys=capsys
    )
    assert code == 0, err
    choices = json.loads(out)
    assert [choice["language"] for choice in choices] == ["en", "sw"]
    for choice in choices:
        assert choice["chosen"] == max(range(3), key=lambda i: (choice["scores"][i], -i)) > 0
        assert choice["checked"] > choice["default"] + 20  # of the bare backbone
        assert choice["num_chosen_on"] + choice["num_checked_on"] == 60
    code, out, _ = xling("choose", NER, "mini-ner", "base", "slot", *runs, "--backbone", "xlmr-nano", capsys=capsys)
    line = out.splitlines()[-1]
    assert line == f"xling evaluate {NER} mini-ner --languages en,sw", "as it was trained: no second system of it"
    weaker = f"average(slot:0.9, {CHOICE}:0.1)"
    code, out, _ = xling("choose", NER, "mini-ner", "base", weaker, *runs, capsys=capsys)
    assert out.splitlines()[-1] == f"xling evaluate {NER} mini-ner --languages en,sw --on 'en,sw={weaker}'"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["base"], "two candidates or more"),
        (["slot", "base", "--split", "test"], "choose on another split"),
        (["slot", "base", "--limit", "10"], "a choice needs 20 or more"),
        (["slot", "nobody"], "unknown entry 'nobody'"),
    ],
)
def test_a_choice_that_says_nothing_is_refused(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = xling("choose", NER, "mini-ner", *args, "--runs", str(tmp_path), capsys=capsys)
    assert code == 2 and words in err, err


def test_requests_to_many_entries_are_answered_as_each_answers_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        (NER, [SENTENCE]),
        (NLI, ["Tom bought a hat .", "Tom bought nothing ."]),
        (CHOICE, ["Tom bought a hat .", "Tom bought a hat .", "Anna bought a hat ."]),
        (POS, ["Tom ananunua kofia\u2028Jumanne\x85 ."]),  # ends of lines for `splitlines`, letters for JSON
        (NER, ["Anna saw Ben in Paris on Monday after the long walk ."]),
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text(
        "".join(json.dumps({"entry": entry, "texts": texts}, ensure_ascii=False) + "\n" for entry, texts in asked)
    )
    code, out, err = xling("predict", "--requests", str(file), "--runs", str(tmp_path), capsys=capsys)
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["id"] for answer in answers] == ["0", "1", "2", "3", "4"]
    for answer, (entry, texts) in zip(answers, asked, strict=True):
        code, out, err = xling("predict", entry, *texts, "--json", "--runs", str(tmp_path), capsys=capsys)
        assert code == 0, err
        alone = json.loads(out)
        assert answer["prediction"] == alone["prediction"]
        shares, own = answer["probabilities"], alone["probabilities"]
        pairs = (
            zip(shares.values(), own.values(), strict=True) if isinstance(own, dict) else zip(shares, own, strict=True)
        )
        assert all(abs(a - b) < 1e-5 for a, b in pairs)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no request"),
        ("{", "line 1: not JSON"),
        ('{"entry": "x"}', "line 1: expected"),
        ('{"entry": "x", "texts": "y"}', "line 1: expected"),
        ('{"entry": "x", "texts": ["y"], "task": 1}', "line 1: expected"),
        ('{"entry": "x", "texts": ["y"], "tsak": "z"}', "line 1: expected"),
        (json.dumps({"entry": NLI, "texts": ["a b"], "task": "mini-pos"}), "no head 'mini-pos'"),
        ('{"entry": "nobody", "texts": ["y"]}', "unknown entry 'nobody'"),
        (json.dumps({"entry": NLI, "texts": ["a", "b", "c"]}), "3 texts given"),
    ],
)
def test_a_request_that_is_none_is_refused(
    line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(line)
    code, _, err = xling("predict", "--requests", str(file), "--runs", str(tmp_path), capsys=capsys)
    assert code == 2 and words in err, err


@pytest.mark.parametrize(
    ("args", "words", "caret_under"),
    [
        (["evaluate", NER, "mini-ner", "--on", f"average(slot, {CHOICE[:-4]}x)"], "unknown entry", CHOICE[0]),
        (["evaluate", NER, "mini-ner", "--on", "sw=stakc(slot)"], "Did you mean 'stack'", "s"),
        (["evaluate", NER, "mini-ner", "--on", f"fuse(slot, {CHOICE})"], "has to be trained before", None),
        (["evaluate", NER, "mini-ner", "--on", "slot", "--on", "base"], "two compositions are given", None),
        (
            ["evaluate", NER, "mini-ner", "--languages", "sw", "--on", "ws=base"],
            "unknown language with a composition 'ws'. Did you mean 'sw'? Known (1): sw",
            None,
        ),
        (["evaluate", NER, "mini-ner,mini-retrieval", "--on", "fr,en=base"], "with a composition 'fr'", None),
        (["evaluate", NER, "mini-ner", "--languages", "en", "--on", "sw=base"], "with a composition 'sw'", None),
        (["choose", NER, "mini-ner", "slot", "ws=base"], "with a composition 'ws'. Did you mean 'sw'?", None),
        (["predict", NER, SENTENCE, "--on", "average(slot:0.5, slot:0.6)"], "make 1.1", "a"),
        (["train", "mini-pos", "--on", f"average({NLI}, base)"], "Base cannot be part", None),
        (["train", "mini-pos", "--on", f"stack({NLI}"], "never closed", "("),
        (["train", "mini-pos", "--on", NLI, "--warm", NLI], "one of --warm, --stack and --on", None),
        (["train", "mini-pos", "--warm", f"ties({NLI}, {POS})"], "which no bottleneck entry keeps", None),
        (
            ["train", "mini-pos", "--method", "lora", "--warm", f"average({NLI}, {POS})"],
            "give --method bottleneck",
            None,
        ),
        (["train", "mini-pos", "--method", "full", "--on", f"average({NLI}, {POS})"], "cannot Stack", None),
        (["zoo", "merge", f"stack({NLI}, {POS})"], "is a route", "s"),
        (["zoo", "merge", f"average({NLI}, {NER})"], "of methods bottleneck and lora", None),
    ],
)
def test_what_cannot_be_composed_is_one_message_with_its_spot(
    args: list[str], words: str, caret_under: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = xling(*args, "--runs", str(tmp_path), capsys=capsys)
    assert code == 2 and words in err, err
    if caret_under is not None:
        line, caret = err.rstrip("\n").splitlines()[-2:]
        assert caret.strip() == "^" and line[caret.index("^")] == caret_under


COMPOSITIONS = """
title: Small
backbone: xlmr-nano
recipe: nano
methods: {full: {train_embeddings: false}, lora: {r: 2, targets: all-linear}}
intermediate: [none, mini-nli, mini-pos]
targets: [mini-ner]
transfer: [warm]
compositions:
  - {warm: "average(mini-nli, mini-pos)"}
  - {on: "stack(mini-nli, mini-pos)"}
overrides: {max_steps: 3, eval_every_steps: 3, dev_examples: 10}
languages: [en, sw]
floors: []
"""


@pytest.mark.filterwarnings("ignore:left out of the grid")
def test_a_grid_reports_each_composition_against_fresh_and_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(COMPOSITIONS, encoding="utf-8")
    code, _, err = xling(
        "run", str(file), "--runs", str(tmp_path / "runs"), "--limit", "10", "--workers", "1", capsys=capsys
    )
    assert code == 0, err
    folder = tmp_path / "runs" / "small-first10"
    table = (folder / "report.md").read_text(encoding="utf-8").split("## Zero-shot means")[1].split("##")[0]
    rows = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in table.splitlines() if "|" in line}
    both = "mini-nli+mini-pos"
    composed = {("lora", f"{both} (average)"), ("lora", f"{both} (stack)"), ("full", both)}
    assert composed | {("lora", "none"), ("full", "none")} <= set(rows)
    for row in composed:  # a merged LoRA of rank 4 is compared with the fresh one of rank 2
        assert rows[row].split("|")[4].strip(), rows[row]
        assert "·" not in rows[row]
    assert "train the ranks of these together (r=4)" in (folder / "report.md").read_text(encoding="utf-8")
