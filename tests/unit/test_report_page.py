"""The page as it is used: contrast of text on tints, sorting in a browser where there is one, the report command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters_xling import report
from adapters_xling.cli import main
from adapters_xling.report import EntryFacts, RunInfo, html
from adapters_xling.spec import Score

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
STYLE = Path(report.__file__).parent / "templates" / "report.css.j2"


def make(method: str, value: float | None, language: str = "de") -> list[Score]:
    fields: dict[str, Any] = {
        "key": f"{method}-key", "task": "pos", "language": language, "metric": "f1", "num_examples": 10,
        "split": "test",
        "zero_shot": True, "backbone": "nano", "method": method, "init": "fresh", "route": "slot",
        "intermediate": "none", "seed": 0,
    }  # fmt: skip
    return [] if value is None else [Score(value=value, **fields)]


# --- colours ----------------------------------------------------------------------------------------------------


def schemes() -> dict[str, dict[str, str]]:
    """Colour variables of the light and the dark scheme."""
    text = STYLE.read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", text, flags=re.S)[:2]
    found = {
        name: dict(re.findall(r"--([\w-]+):\s*([^;]+);", body)) for name, body in (("light", light), ("dark", dark))
    }
    assert set(found["light"]) == set(found["dark"])
    return found


def rgb(text: str) -> tuple[float, ...]:
    if text.startswith("#"):
        return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(map(float, text.split()))


def contrast(one: tuple[float, ...], two: tuple[float, ...]) -> float:
    """WCAG 2 contrast ratio."""

    def luminance(colour: tuple[float, ...]) -> float:
        parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_every_tint_and_ground_has_contrast_enough(scheme: str) -> None:
    colours = schemes()[scheme]
    text = STYLE.read_text(encoding="utf-8")
    ink, soft, card, ground = (rgb(colours[name]) for name in ("ink", "soft", "card", "bg"))
    for name in ("heat", "gain", "loss"):
        deepest = 100 * float(re.findall(rf"\.{name} \{{ background: .*?var\(--t\) \* (\.\d+)\)", text)[0])
        mixed = tuple(a * (1 - deepest) + b * deepest for a, b in zip(card, rgb(colours[name]), strict=True))
        assert contrast(ink, mixed) >= 4.5, name
    assert "td[style] small, td[style] .mark { color: inherit; }" in text  # the soft colour would be too faint there
    assert contrast(soft, card) >= 4.5
    assert contrast(soft, ground) >= 4.5
    for n in range(6):
        assert contrast(rgb(colours[f"s{n}"]), card) >= 4.5


def test_gain_and_loss_differ_for_eyes_that_do_not_tell_red_from_green() -> None:
    """Blue against orange: apart in the blue-yellow direction, which protanopes and deuteranopes see."""
    for colours in schemes().values():
        gain, loss = rgb(colours["gain"]), rgb(colours["loss"])
        assert gain[2] - (gain[0] + gain[1]) / 2 > 60
        assert loss[2] - (loss[0] + loss[1]) / 2 < -60


# --- sorting ----------------------------------------------------------------------------------------------------

CLICKS = """
<script>
const table = document.querySelector("#summary table");
const head = (name) => [...table.tHead.rows[1].cells].find((cell) => cell.textContent.trim() === name);
const order = () => [...table.tBodies].map((body) => [...body.rows].map((row) => row.cells[0].textContent.trim()));
const seen = [];
const press = (name) => {
  const button = head(name).querySelector("button");
  button.focus();
  const focused = document.activeElement === button;
  button.click();
  seen.push([order(), head(name).getAttribute("aria-sort"), focused, button.type]);
};
press("trainable"); press("trainable"); press("method");
seen.push(table.querySelectorAll("[aria-sort]").length);
document.documentElement.dataset.seen = JSON.stringify(seen);
</script>
"""


@pytest.mark.skipif(not BROWSER, reason="no browser is installed")
def test_headings_sort_by_number_with_what_is_missing_last_and_say_so(tmp_path: Path) -> None:
    scores = [*make("b", 10.0), *make("c", 20.0), *make("a", 30.0), *make("vectors", 1.0), *make("head", 2.0)]
    facts = {"a-key": EntryFacts(num_trainable=900), "c-key": EntryFacts(num_trainable=10_000)}
    page = tmp_path / "page.html"
    page.write_text(html(scores, info=RunInfo(title="t"), facts=facts).replace("</body>", CLICKS + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    done = subprocess.run(
        [BROWSER, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    down, up, by_name, marked = json.loads(found[1].replace("&quot;", '"'))
    assert down == [[["c", "a", "b"], ["head", "vectors"]], "descending", True, "button"]
    assert up == [[["a", "c", "b"], ["head", "vectors"]], "ascending", True, "button"]
    assert by_name == [[["a", "b", "c"], ["head", "vectors"]], "ascending", True, "button"]
    assert marked == 1


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of the quickstart that was narrowed."""
    monkeypatch.setenv("XLING_RUNS", str(tmp_path))
    place = tmp_path / "quickstart-narrowed"
    report.write_scores(place / "scores.jsonl", make("lora", 61.5))
    (place / "info.json").write_bytes(report.encode_info(RunInfo(title="Narrowed"), {}))
    return place


def xling(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize(
    ("format", "has"),
    [
        ("html", "<!doctype html>"),
        ("markdown", "# Narrowed"),
        ("latex", r"\toprule"),
        ("csv", "key,task"),
        ("text", "61.5"),
    ],
)
def test_report_prints_one_format_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], format: str, has: str
) -> None:
    assert xling("report", str(folder), "--format", format) == 0
    out = capsys.readouterr().out
    assert has in out
    assert sorted(path.name for path in folder.iterdir()) == ["info.json", "scores.jsonl"]
    if format == "text":
        assert xling("report", str(folder), "--text") == 0
        assert capsys.readouterr().out == out


def test_report_of_a_folder_writes_all_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert xling("report", str(folder)) == 0
    written = json.loads(capsys.readouterr().out)
    assert {name: Path(path).name for name, path in written.items()} == report.FILES
    assert all(Path(path).stat().st_size for path in written.values())


def test_report_of_what_was_not_run_says_what_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert xling("report", "quickstart") == 2
    said = capsys.readouterr().err
    assert "run the grid first (xling run quickstart)" in said
    assert str(folder) in said
    assert xling("report", "quikstart") == 2
    assert "Did you mean 'quickstart'" in capsys.readouterr().err
    assert xling("report", "quickstart", "--format", "latx") == 2
    assert "'latex'" in capsys.readouterr().err


def test_training_time_comes_from_the_cards_and_the_last_run_is_said_as_such() -> None:
    facts = {"lora-key": EntryFacts(seconds=3600.0), "other": EntryFacts(seconds=1800.0)}
    again = RunInfo(title="t", seconds=9.7, num_trained=0)
    text = html(make("lora", 61.5), info=again, facts=facts)
    assert re.search(r"<dt>training time</dt><dd>1 h 30 min \(2 entries\)</dd>", text)
    assert re.search(r"<dt>last run</dt><dd>9.7 s wall-clock, nothing trained</dd>", text)
    first = html(make("lora", 61.5), info=RunInfo(title="t", seconds=9.7, num_trained=2), facts=facts)
    assert "9.7 s wall-clock, 2 trained" in first
    silent = html(make("lora", 61.5), info=again, facts={**facts, "third": EntryFacts(num_bytes=3)})
    assert "(2 entries, 1 do not say)" in silent
