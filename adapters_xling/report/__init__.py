"""Scores in, report out: cells, deltas, costs and floors as one self-contained HTML file, Markdown, LaTeX, CSV, or a
terminal table.

Nothing here trains, evaluates or imports torch: a report can be made anywhere from `scores.jsonl` alone. What the
scores do not say (sizes, times, convergence) comes from the caller as `EntryFacts`.
"""

from __future__ import annotations

from adapters_xling.report.between import between
from adapters_xling.report.cells import BASE, FLOORS, Average, Cell, System, Target
from adapters_xling.report.collect import collect
from adapters_xling.report.compare import Kept, compare
from adapters_xling.report.compared import BETWEEN, marks_of, sections_of, write_comparisons
from adapters_xling.report.comparisons import Comparison, Comparisons, Interval
from adapters_xling.report.info import decode_info, encode_info
from adapters_xling.report.latex import latex
from adapters_xling.report.layers import Layers, Swept, read_layers, write_layers
from adapters_xling.report.page import html
from adapters_xling.report.results import Results
from adapters_xling.report.scores import EntryFacts, RunInfo, read_scores, write_scores
from adapters_xling.report.sheets import Column, Item, Section, Sheet
from adapters_xling.report.tables import csv, markdown, text_table
from adapters_xling.report.versus import Versus, versus
from adapters_xling.report.writing import FILES, FORMATS, render, write

__all__ = [
    "BASE",
    "BETWEEN",
    "FILES",
    "FLOORS",
    "FORMATS",
    "Average",
    "Cell",
    "Column",
    "Comparison",
    "Comparisons",
    "EntryFacts",
    "Interval",
    "Item",
    "Kept",
    "Layers",
    "Results",
    "RunInfo",
    "Section",
    "Sheet",
    "Swept",
    "System",
    "Target",
    "Versus",
    "between",
    "collect",
    "compare",
    "csv",
    "decode_info",
    "encode_info",
    "html",
    "latex",
    "markdown",
    "marks_of",
    "read_layers",
    "read_scores",
    "render",
    "sections_of",
    "text_table",
    "versus",
    "write",
    "write_comparisons",
    "write_layers",
    "write_scores",
]
