"""Figures of a built encoder: retrieval per language and layer on held-out lines, pieces per word, unknown pieces."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import XLMRobertaModel

QUICK_LINES = 100
"""Lines of a report on the way: all of them cost a fifth of the building time when one was given every five minutes."""
QUICK = ("de", "es", "fr", "ru", "zh", "ar", "hi", "sw", "tr", "th")


@torch.no_grad()
def vectors(model: XLMRobertaModel, tokenizer: Any, lines: list[str], *, device: str, bf16: bool) -> torch.Tensor:
    """Mean-pooled hidden states of every layer, centred by nothing, unit length: (layers + 1, N, D)."""
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    found: list[torch.Tensor] = []
    for at in range(0, len(lines), 64):
        batch = tokenizer(
            [lines[i] for i in order[at : at + 64]], padding=True, truncation=True, max_length=128, return_tensors="pt"
        ).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            hidden = model(**batch, output_hidden_states=True).hidden_states
        weight = batch["attention_mask"][:, :, None].float()
        found.append(torch.stack([(h.float() * weight).sum(1) / weight.sum(1) for h in hidden]))
    stacked = F.normalize(torch.cat(found, 1), dim=-1)
    back = torch.empty(len(lines), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(lines))
    return stacked[:, back]


def retrieval(
    model: XLMRobertaModel,
    tokenizer: Any,
    held: list[dict[str, str]],
    languages: list[str],
    *,
    device: str,
    bf16: bool,
) -> dict[str, list[float]]:
    """Share of held-out sentences whose English twin is nearest, both directions, per layer from the embeddings up.

    Languages without held-out lines are left out.
    """
    was = model.training
    model.eval()
    english = vectors(model, tokenizer, [row["en"] for row in held], device=device, bf16=bf16)
    found = {}
    for language in languages:
        at = [i for i, row in enumerate(held) if language in row]
        if not at:
            continue
        other = vectors(model, tokenizer, [held[i][language] for i in at], device=device, bf16=bf16)
        shares = []
        for a, b in zip(english[:, at], other, strict=True):
            scores, gold = a @ b.T, torch.arange(len(at), device=device)
            hits = (scores.argmax(1) == gold).float().mean() + (scores.argmax(0) == gold).float().mean()
            shares.append(round(50 * float(hits), 1))
        found[language] = shares
    model.train(was)
    return found


def segmentation(tokenizer: Any, held: list[dict[str, str]], languages: list[str]) -> dict[str, dict[str, float]]:
    """Pieces per whitespace word (languages without spaces: per character) and percent of unknown pieces."""
    out = {}
    for language in languages:
        lines = [row[language] for row in held if language in row]
        if not lines:
            continue
        ids = tokenizer(lines, add_special_tokens=False)["input_ids"]
        pieces = sum(map(len, ids))
        spaced = language not in ("zh", "ja", "th", "my")
        units = sum(len(line.split()) if spaced else len(line) for line in lines)
        unknown = sum(one == tokenizer.unk_token_id for row in ids for one in row)
        out[language] = {"per unit": round(pieces / units, 2), "unknown percent": round(100 * unknown / pieces, 3)}
    return out
