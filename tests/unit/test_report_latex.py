"""LaTeX: structure of every table, escapes, cuts, and, where TeX is installed, that it compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.report import EntryFacts, RunInfo, latex
from adapters_xling.report.latex import HEAD, MOST_FLOATS, MOST_ROWS, TEXT_WIDTH_PT, escape
from adapters_xling.report.prose import HOW_TO_READ
from adapters_xling.spec import Score

EVIL = r"50% of R&D_1 #{$x^2$} ~ \input{x} <a|b> \"q\" 'r' `s` ±Δ−·†×…"


def make(task: str, language: str, value: float, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "key": f"{task}-{changes.get('method', 'lora')}-{changes.get('intermediate', 'none')}",
        "metric": "f1", "num_examples": 10, "split": "test", "zero_shot": language != "en", "backbone": "nano",
        "method": "lora", "init": "fresh", "route": "slot", "intermediate": "none", "seed": 0,
    }  # fmt: skip
    return Score(task=task, language=language, value=value, **(fields | changes))


SCORES = [
    make("pos", "en", 90.0), make("pos", "de", 70.0), make("pos", "ru", 60.0),
    make("pos", "de", 71.0, seed=1, key="second"),
    make("pos", "en", 91.0, intermediate="nli", init="warm"), make("pos", "de", 73.0, intermediate="nli", init="warm"),
    make("pos", "de", 69.0, method="vectors"),
]  # fmt: skip
FACTS = {"pos-lora-nli": EntryFacts(num_trainable=98_000, num_bytes=395_000, seconds=30.0, converged=False)}
INFO = RunInfo(title="Small & simple", notes=("nano scale, 100% made up",))


def tables(text: str) -> list[str]:
    return re.findall(r"\\begin\{table\*\}.*?\\end\{table\*\}", text, flags=re.S)


def check(text: str) -> None:
    """Environments balance; every row of a tabular fills its columns; rules span columns that exist."""
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    bare = re.sub(r"\\.", "", text)
    assert bare.count("{") == bare.count("}")
    for columns, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, flags=re.S):
        for line in body.splitlines():
            if line.startswith("\\cmidrule"):
                ends = re.findall(r"\{(\d+)-(\d+)\}", line)
                assert all(2 <= int(a) <= int(b) <= len(columns) for a, b in ends)
            elif line not in ("\\toprule", "\\midrule", "\\bottomrule"):
                assert line.endswith(r" \\")
                spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
                assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(columns), line
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    assert len(labels) == len(set(labels)) == len(tables(text))
    assert all(re.fullmatch(r"tab:[a-z0-9:-]+", label) for label in labels)


def test_the_first_table_literally() -> None:
    text = latex(SCORES, info=INFO, facts=FACTS)
    check(text)
    assert text.startswith(HEAD)
    assert all(f"% {line}" in text for line in HOW_TO_READ)
    assert tables(text)[0] == (
        r"""\begin{table*}[t]
\centering\scriptsize
\setlength{\tabcolsep}{3pt}
\begin{tabular}{lrrrrrrrr}
\toprule
 & \multicolumn{2}{c}{all tasks} & \multicolumn{3}{c}{pos} & \multicolumn{3}{c}{cost per entry} \\
\cmidrule(lr){2-3}\cmidrule(lr){4-6}\cmidrule(lr){7-9}
method & zero-shot & $\Delta$ & zero-shot & en & $\Delta$ & trainable & size & training \\
\midrule
lora & \textbf{65.2} &  & \textbf{65.2} & 90.0 &  & $\cdot$ & $\cdot$ & $\cdot$ \\
lora $\leftarrow$ nli & 73.0$^{\dagger}$ {\tiny (1/2)} & $+$3.0$^{\dagger}$ {\tiny 1 seed (1/2)} & """
        r"""73.0$^{\dagger}$ {\tiny (1/2)} & 91.0$^{\dagger}$ & $+$3.0$^{\dagger}$ {\tiny 1 seed (1/2)} & 98.0k & """
        r"""395 kB & 30.0 s \\
\midrule
vectors & 69.0 {\tiny (1/2)} &  & 69.0 {\tiny (1/2)} & $\cdot$ &  & $\cdot$ & $\cdot$ & $\cdot$ \\
\bottomrule
\end{tabular}
\caption[{Small \& simple}]{Small \& simple. Zero-shot means per task, in percent. $\Delta$: difference to the same """
        r"""method without an intermediate task, $\pm$ standard deviation over seeds. Bold: highest complete mean in """
        r"""its column. Below the line: floors. Cost: largest entry of the row; training time is the mean of its """
        r"""entries, without the intermediate task's own. nano scale, 100\% made up}
\label{tab:small-simple:summary}
\end{table*}"""
    )


def test_every_caption_carries_the_warning_and_seeds_their_spread() -> None:
    text = latex([*SCORES, make("pos", "ru", 62.0, seed=1, key="second")], info=INFO, facts=FACTS)
    assert all(r"nano scale, 100\% made up" in table for table in tables(text))
    assert r"\textbf{65.8} {\tiny $\pm$1.1}" in text


def test_signs_of_latex_in_names_are_printed_and_never_run() -> None:
    scores = [make(EVIL, "de", 1.0, method=EVIL, metric=EVIL), make(EVIL, "en", 2.0, method=EVIL, intermediate=EVIL)]
    text = latex(scores, info=RunInfo(title=EVIL, notes=(EVIL,)), facts={EVIL: EntryFacts(failure=EVIL)})
    check(text)
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert "\\input" not in code.replace(r"\textbackslash{}input", "")
    assert not re.search(r"(?<!\\)[#%~]", code)
    assert escape("a\nb\t c") == "a b c"


def test_a_title_without_latin_letters_still_has_labels() -> None:
    check(latex(SCORES, info=RunInfo(title="表 1")))
    assert "tab:report:summary" in latex(SCORES, info=RunInfo(title="表"))


def wide() -> list[Score]:
    codes = ["en", "de", "es", "fr", "ru", "zh", "hi", "sw", "tr", "ar", "el", "th", "ur", "vi", "bg", "fi", "et", "eu"]
    return [
        make(f"task{task}", code, 50.0 + seed, seed=seed, intermediate=inter, key=f"{task}-{inter}-{seed}")
        for task in range(9)
        for code in codes
        for inter in ("none", *(f"intermediate{n}" for n in range(50)))
        for seed in (0, 1)
    ]


def test_wide_and_long_tables_are_cut_and_lose_nothing() -> None:
    text = latex(wide(), info=INFO)
    check(text)
    first = [table for table in tables(text) if "tab:small-simple:summary" in table]
    assert len(first) > 2
    heads = re.findall(r"\\multicolumn\{\d+\}\{c\}\{(task\d)\}", "".join(first))
    assert sorted(set(heads)) == [f"task{n}" for n in range(9)]
    assert f"(1 of {len(first)})" in first[0]
    for table in tables(text):
        assert table.count("\\\\\n") <= MOST_ROWS + 2
    assert all(f"intermediate{n} " in "".join(first) for n in range(50))
    between = re.split(r"\\clearpage", text)
    assert max(len(tables(part)) for part in between) == MOST_FLOATS


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_tables_compile_and_fit_the_page(tmp_path: Path) -> None:
    def overfull(name: str, text: str) -> list[float]:
        """Compile tables as a document; returns by how many points each too wide line is too wide."""
        (tmp_path / f"{name}-tables.tex").write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.tex").write_text(
            r"\documentclass{article}\usepackage{booktabs}"
            rf"\usepackage[textwidth={TEXT_WIDTH_PT + 10}pt,textheight=23cm]{{geometry}}"
            rf"\begin{{document}}\listoftables\input{{{name}-tables}}\end{{document}}",
            encoding="utf-8",
        )
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", done.stdout)]

    evil = make(EVIL, "de", 1.0, method=EVIL, metric=EVIL)
    overfull("evil", latex([evil], info=RunInfo(title=EVIL, notes=(EVIL,))))  # a name may be longer than a page is wide
    some = [score for score in wide() if score.task < "task3"]
    assert max(overfull("wide", latex(some, info=INFO)), default=0.0) < 10
