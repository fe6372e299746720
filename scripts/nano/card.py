"""The backbone's README from its figures, for people; ``training.json`` beside it has all of them for programs.

python scripts/nano/card.py zoo/xlmr-nano    # writes the README again
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return [_row(head), _row(["---"] + ["---:"] * (len(head) - 1)), *map(_row, rows)]


def _layers(found: dict[str, list[float]]) -> list[str]:
    """Language × layer."""
    if not found:
        return ["Not measured: trained without real text."]
    number = len(next(iter(found.values())))
    mean = [round(sum(v[i] for v in found.values()) / len(found), 1) for i in range(number)]
    rows = [[language, *values] for language, values in sorted(found.items())]
    return _table(["language", *(f"layer {i}" for i in range(number))], [*rows, ["**mean**", *mean]])


def _budget(training: dict[str, Any]) -> str:
    if training["device"] != "cpu":
        return f"{training['minutes']} minutes of one GPU"
    cores = training["threads"]
    spent = f" ({training['cpu_minutes']} minutes of CPU time)" if "cpu_minutes" in training else ""
    return f"{training['minutes']} minutes of {cores} core{'s' if cores > 1 else ''}{spent}"


def render(figures: dict[str, Any]) -> str:
    """Markdown from what ``evaluate.figures`` gives."""
    training, retrieval, accuracy = figures["training"], figures["retrieval"], figures["summary"]["masked_accuracy"]
    real = training["real_text"]
    pieces = figures["tokenizer"]
    parts = [
        "---",
        "license: apache-2.0",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags: [xlm-roberta, tiny, made-up-data]",
        "---",
        "",
        "# xlmr-nano",
        "",
        "A tiny XLM-R-shaped encoder for trying out, testing and teaching `adapters_xling` without a "
        "network: it knows the made-up mini world in eight languages "
        "well and real text hardly. Nothing measured on it says anything about XLM-R.",
        "",
        "## Training",
        "",
        *_table(
            ["", ""],
            [
                ["budget", _budget(training)],
                ["tokens read", f"{training['tokens'] / 1e6:.1f} million in {training['steps']:,} steps"],
                ["seed", training["seed"]],
                [
                    "real text",
                    f"{training['real_fraction']:.0%} of the batches, up to "
                    f"{training['lines_per_language']:,} lines a language; "
                    f"{training['dropped_lines_equal_to_evaluation_rows']:,} lines equal to evaluation"
                    f" rows were dropped"
                    if real
                    else "none",
                ],
                *[[name, text] for name, text in figures["recipe"].items()],
                ["hardware", figures["hardware"]],
                ["versions", ", ".join(f"{k} {v}" for k, v in figures["versions"].items())],
            ],
        ),
        "",
        "Made by `scripts/pretrain_nano.py`. Real text, where there is any: NTREX, TICO-19, Tatoeba, "
        "Common Voice, UD and PAN-X training sentences, Bibles in the public domain; the last "
        "lines of NTREX and TICO-19 were held out.",
        "",
        "## Masked tokens guessed right",
        "",
        *_table(["text", "%"], [["mini world", accuracy["mini"]], *([["real", accuracy["real"]]] if real else [])]),
        "",
        "With the masking of training, on rows drawn afresh (mini) or lines that were read in training too (real).",
        "",
        "## Retrieval by language and layer",
        "",
        f"Top-1 in percent: {retrieval['pooling']}.",
        "",
        "Mini world, 400 held-out one-fact sentences:",
        "",
        *_layers(retrieval["mini_easy_400_dev"]),
        "",
        "Mini world, 400 held-out sentences in groups of four that differ in one role:",
        "",
        *_layers(retrieval["mini_hard_400_dev"]),
        "",
        "NTREX, the 300 lines held out of pretraining:",
        "",
        *_layers(retrieval["ntrex_heldout"]),
        "",
        "## Vocabulary",
        "",
        "Share of unknown tokens and pieces per word (between spaces) of the fast tokenizer; "
        "Japanese, Thai, Chinese and Burmese write few spaces.",
        "",
        *_table(
            ["language", "unknown %", "pieces per word"],
            [[k, v["unknown_percent"], v["pieces_per_word"]] for k, v in pieces.items()],
        ),
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "README.md").write_text(
        render(json.loads((folder / "training.json").read_text(encoding="utf-8"))), encoding="utf-8"
    )
