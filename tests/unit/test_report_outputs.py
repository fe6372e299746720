# ruff: noqa: E501 - literal tables
"""Markdown, CSV, HTML and terminal output."""

from __future__ import annotations

import csv as csv_reader
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from adapters_xling.errors import DataError
from adapters_xling.report import EntryFacts, RunInfo, csv, html, markdown, text_table, write
from adapters_xling.report.prose import HOW_TO_READ
from adapters_xling.spec import Score

INFO = RunInfo(title="Small", date="2026-01-02", machine="2 cores", seconds=125, notes=("nano scale",))
VOID = {"meta", "link", "br", "img", "input", "hr", "line", "path"}


def make(task, language, value, method="lora", intermediate="none", seed=0):
    init = "fresh" if intermediate == "none" else "warm"
    key = f"{task}-{method}-{init}-s{seed}"
    zero_shot = language != "en"
    return Score(
        key=key,
        task=task,
        language=language,
        metric="f1",
        value=value,
        num_examples=10,
        split="test",
        zero_shot=zero_shot,
        backbone="nano",
        method=method,
        init=init,
        route="slot",
        intermediate=intermediate,
        seed=seed,
    )


SCORES = [
    make("pos", "en", 90.0),
    make("pos", "de", 70.0),
    make("pos", "ru", 60.0),
    make("pos", "en", 90.5, intermediate="nli"),
    make("pos", "de", 73.0, intermediate="nli"),
    make("pos", "en", 88.0, method="vectors"),
    make("pos", "de", 69.0, method="vectors"),
    make("pos", "ru", 55.0, method="vectors"),
]
FACTS = {
    "pos-lora-fresh-s0": EntryFacts(
        num_trainable=98_000,
        num_bytes=395_000,
        seconds=31.5,
        converged=True,
        steps=400,
        device="i7, 1 thread",
        on_gpu=False,
        num_devices=1,
    ),
    "pos-lora-warm-s0": EntryFacts(
        num_trainable=98_000, num_bytes=395_000, seconds=30.0, converged=False, dev_score=20.0, chance=12.0
    ),
}

GOLDEN = r"""# Small

backbone: nano · seeds: 1 (0) · cells: 8 · date: 2026-01-02 · machine: 2 cores · training time: 1 min 2 s (2 entries) · last run: 2 min 5 s wall-clock

> **Note:** nano scale

## Zero-shot means

| method | intermediate | all tasks | Δ | pos | en | Δ | trainable | size | training |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| lora | none | 65.0 |  | 65.0 | 90.0 |  | 98.0k | 395 kB | 31.5 s |
| lora | nli | 73.0† (1/2) | +3.0† (1 seed) (1/2) | 73.0† (1/2) | 90.5† | +3.0† (1 seed) (1/2) | 98.0k | 395 kB | 30.0 s |
| vectors | none | 62.0 |  | 62.0 | 88.0 |  | · | · | · |

## pos

Metric: f1, split: test.

| method | intermediate | zero-shot | en | de | ru |
| --- | --- | ---: | ---: | ---: | ---: |
| lora | none | 65.0 | 90.0 | 70.0 | 60.0 |
| lora | nli | 73.0† (1/2) | 90.5† | 73.0† | · |
| vectors | none | 62.0 | 88.0 | 69.0 | 55.0 |

Δ against no intermediate task, seeds paired:

| method | intermediate | zero-shot | en | de | ru |
| --- | --- | ---: | ---: | ---: | ---: |
| lora | nli | +3.0† (1 seed) (1/2) | +0.5† | +3.0† | · |

## Effect of the intermediate task

Zero-shot mean after an intermediate task minus the same method's without one, seeds paired, in points.

| task | nli |
| --- | ---: |
| pos | +3.0† (1/2) |

## Cost

From the entries' cards. A device-hour is an hour of training on one device (one process where that is a processor), evaluation not counted.

### Per method

| method | entries | per entry: trained parameters | per entry: size | all entries: size | all entries: of the largest | all entries: steps | all entries: device-hours | all entries: device |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| lora | 2 | 98.0k | 395 kB | 790 kB | 100 % | 400 (1/2) | 0.0088 CPU-h (1/2) | i7, 1 thread |
| vectors | 1 | · | · | · | · | · | · | · |

### Per cell

| method | task | entries | per entry: trained parameters | per entry: size | per entry: steps | per entry: device-hours | per entry: with its parents |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
| lora | pos | 1 | 98.0k | 395 kB | 400 | 0.0088 CPU-h | 0.0088 CPU-h |
| lora after nli | pos | 1 | 98.0k | 395 kB | · | · | · |
| vectors | pos | 1 | · | · | · | · | · |

## Floors

| task | vectors | best over vectors |  |
| --- | ---: | ---: | ---: |
| pos | 62.0 | +4.0 (lora after nli) | lexical |

Zero-shot means. vectors: token vectors alone, no layers.

## Convergence

- pos-lora-warm-s0: did not converge; 20.0 on dev against 12.0 by chance

## How to read this

"""


def test_markdown_literally():
    assert markdown(SCORES, info=INFO, facts=FACTS) == GOLDEN + "".join(f"- {line}\n" for line in HOW_TO_READ)


def test_markdown_escapes_what_would_break_a_table_or_open_a_tag():
    text = markdown([make("a|b", "de", 1.0)], info=RunInfo(title="<b>x\n# y"))
    assert text.startswith("# \\<b\\>x # y\n")
    assert "| a\\|b |" in text


class Page(HTMLParser):
    """Checks that tags balance, and collects what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.tables, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append([int(dict(attrs).get("colspan", 1)), ""])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.text.append(data)
        if "table" in self.open and ("td" in self.open or "th" in self.open):
            self.tables[-1][-1][-1][1] += data


def test_html_is_well_formed_and_every_row_fills_its_table():
    page = Page(html(SCORES, info=INFO, facts=FACTS))
    assert len(page.tables) == 8  # summary, effect, cost by method and cell, heat map, deltas, floors, seeds
    for table in page.tables:
        assert len({sum(span for span, _ in row) for row in table}) == 1, table
    heat = {row[0][1].strip(): [text for _, text in row[1:]] for row in page.tables[4]}
    assert heat["lora after nli"] == ["73.0†", "(1/2)", "90.5†", "73.0†", "·"]


def test_html_loads_nothing():
    text = html(SCORES, info=INFO, facts=FACTS)
    page = Page(text)
    assert not re.search(r"https?://|url\(|@import|//[a-z]+\.", text)
    loads = [
        value
        for tag, attrs in page.tags
        for name, value in attrs.items()
        if name in ("src", "srcset", "action", "data") or (name == "href" and tag != "a")
    ]
    assert loads == ["data:,"]
    assert "default-src 'none'" in text
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    labels = {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert links | labels <= ids


def test_html_headers_have_scope_and_every_tint_has_its_value():
    page = Page(html(SCORES, info=INFO, facts=FACTS))
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    tinted = [attrs for tag, attrs in page.tags if tag == "td" and "style" in attrs]
    assert (
        len(tinted) == 1 + 8 + 2
    )  # the effect, scored cells of the map and of the deltas; missing ones have no colour
    assert all(re.fullmatch(r"--t:\d{1,3}", attrs["style"]) and attrs["data-v"] for attrs in tinted)


def test_an_incomplete_average_is_never_set_off_as_the_best():
    text = html(SCORES, info=INFO, facts=FACTS)
    assert re.findall(r'<td class="num first best" data-v="([0-9.]+)"', text) == ["65.0", "65.0"]
    assert "<b>65.0</b>" in text


def test_html_escapes_everything_given():
    evil = "</script><script>alert(1)</script>\"'&"
    info = RunInfo(title=evil, machine=evil, commit=evil, date=evil, notes=(evil,))
    one = make(evil, "de", 1.0, method=evil)
    other = make(evil, evil, 2.0, method=evil, intermediate=evil)
    facts = {
        one.key: EntryFacts(num_trainable=5, failure=evil, method_settings={evil: evil}),
        evil: EntryFacts(failure=evil),
    }
    text = html([one, other], info=info, facts=facts)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "<script>alert" not in text
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_outputs_do_not_depend_on_line_order_or_time():
    turned = list(reversed(SCORES))
    assert html(SCORES, info=INFO, facts=FACTS) == html(turned, info=INFO, facts=FACTS)
    assert markdown(SCORES, info=INFO, facts=FACTS) == markdown(turned, info=INFO, facts=FACTS)
    assert csv(SCORES, facts=FACTS) == csv(turned, facts=FACTS)


def test_one_bare_score_is_enough_for_every_output():
    only = [make("pos", "de", 12.345)]
    info = RunInfo(title="t")
    assert "12.3" in html(only, info=info)
    assert "12.3" in markdown(only, info=info)
    assert "1 of 1 entries do not say whether they converged" in markdown(only, info=info)
    assert "12.3" in text_table(only)


def test_csv_is_tidy_and_exact():
    rows = list(csv_reader.DictReader(io.StringIO(csv([*SCORES, SCORES[0]], facts=FACTS))))
    assert len(rows) == len(SCORES)
    by_place = {(row["key"], row["language"]): row for row in rows}
    row = by_place["pos-lora-warm-s0", "de"]
    assert (row["value"], row["converged"], row["num_trainable"]) == ("73.0", "False", "98000")
    assert by_place["pos-vectors-fresh-s0", "de"]["num_trainable"] == ""


def test_write_makes_every_file_or_none(tmp_path):
    paths = write(iter(SCORES), tmp_path / "out", info=INFO, facts=FACTS)
    assert {kind: path.name for kind, path in paths.items()} == {
        "html": "report.html",
        "markdown": "report.md",
        "latex": "report.tex",
        "csv": "scores.csv",
    }
    assert paths["markdown"].read_text(encoding="utf-8") == markdown(SCORES, info=INFO, facts=FACTS)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.md",
        "report.tex",
        "scores.csv",
    ]
    with pytest.raises(DataError):
        write([], tmp_path / "none", info=INFO)
    assert not (tmp_path / "none").exists()


def test_text_table_fits_and_loses_no_task():
    tasks = [f"task-number-{n}" for n in range(9)]
    scores = [
        make(task, code, 50.0 + n, method=method, intermediate=inter, seed=seed)
        for n, task in enumerate(tasks)
        for code in ("en", "de", "ru")
        for method in ("bottleneck", "lora")
        for inter in ("none", "commonsense")
        for seed in (0, 1)
    ]
    text = text_table(scores)
    assert max(map(len, text.splitlines())) <= 100
    assert all(task in text for task in tasks)
    assert "2 seeds" in text


def test_text_table_literally():
    assert text_table(SCORES, info=INFO, facts=FACTS) == (
        """\
                    all tasks                         pos
             zero-shot       Δ          zero-shot      en      Δ
lora         65.0                       65.0         90.0
lora ← nli   73.0† (1/2)  +3.0† (1/2)   73.0† (1/2)  90.5†  +3.0† (1/2)
vectors      62.0                       62.0         88.0

Note: nano scale
1 seed. · not scored, (6/7) incomplete average, † not converged."""
    )


def test_report_imports_no_torch_and_leaves_jinja_to_html():
    code = "import sys, adapters_xling.report; print(sorted({'torch', 'jinja2', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
