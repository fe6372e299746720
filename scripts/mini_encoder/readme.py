"""What a built encoder says of itself."""

from __future__ import annotations

from typing import Any


def render(name: str, facts: dict[str, Any]) -> str:
    """README of a backbone's folder."""
    state, words = facts["state"], facts["vocabulary"]
    layers = len(next(iter(facts["retrieval"].values())))
    lines = [
        f"# {name}",
        "",
        f"Layers of {facts['donor']['model']} ({facts['donor']['licence']}) under a vocabulary of {words['pieces']:,} "
        f"pieces in {len(facts['languages'])} languages; objective: {facts['objective']}. "
        f"The donor has seen {facts['donor_has_seen']}. Built by `scripts/build_mini_encoder.py`; not for shipping.",
        "",
        f"- {state['step']:,} steps, {state['tokens']:,} tokens, {state['elapsed'] / 60:.1f} minutes by the clock, "
        f"{state['cpu'] / 60:.1f} minutes of processor time",
        f"- pieces: {words['copied']:,} copied, {words['of neighbours']:,} made of neighbours, "
        f"{words['at the mean']:,} at the mean",
        f"- text: {facts['text']['sentences']:,} sentence numbers; {facts['text']['lines_dropped']} of "
        f"{facts['text']['lines_read']:,} lines dropped because they equal an evaluation row",
        "",
        "English and each language on held-out NTREX-128 lines, share of nearest neighbours that are right, both "
        "directions, mean pooling, by layer (0: embeddings):",
        "",
        "| language | " + " | ".join(map(str, range(layers))) + " |",
        "|---" * (layers + 1) + "|",
    ]
    for language, shares in sorted(facts["retrieval"].items()):
        lines.append(f"| {language} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")
    mean = [sum(column) / len(column) for column in zip(*facts["retrieval"].values(), strict=True)]
    lines.append("| mean | " + " | ".join(f"{share:.1f}" for share in mean) + " |")
    return "\n".join(lines) + "\n"
