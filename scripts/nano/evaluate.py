"""Figures of the nano backbone: masked accuracy, retrieval by language and layer, pieces per word, unknown pieces."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from adapters_xling.tasks import mini
from adapters_xling.tasks.mini import grammar, world

from . import corpus, data, vocab


@torch.no_grad()
def layer_vectors(model: Any, rows: list[Any], device: str) -> torch.Tensor:
    """Mean-pooled unit vectors of every layer, [layers + 1, rows, width]."""
    out = []
    encoder = model.encoder
    for at in range(0, len(rows), 128):
        part = rows[at : at + 128]
        width = max(map(len, part)) + 2
        ids = np.full((len(part), width), vocab.PAD, dtype=np.int64)
        for i, row in enumerate(part):
            ids[i, : len(row) + 2] = [vocab.BOS, *row, vocab.EOS]
        tensor = torch.from_numpy(ids).to(device)
        mask = (tensor != vocab.PAD).long()
        hidden = encoder(input_ids=tensor, attention_mask=mask, output_hidden_states=True).hidden_states
        weight = mask[None, :, :, None].float()
        out.append(F.normalize((torch.stack(hidden).float() * weight).sum(2) / weight.sum(2), dim=-1))
    return torch.cat(out, dim=1)


def top1(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    """Share found by cosine, both directions averaged, per layer, in percent."""
    found = []
    for x, y in zip(a, b, strict=False):
        scores = x @ y.T
        gold = torch.arange(len(x), device=scores.device)
        hits = (scores.argmax(1) == gold).float().mean() + (scores.argmax(0) == gold).float().mean()
        found.append(round(float(hits) * 50, 1))
    return found


def scenes(split: str, hard: bool, number: int) -> list[world.Fact]:
    """One-fact scenes; hard ones come in groups that differ in one part."""
    rng = world.rng_for("figures", split, hard)
    facts: list[world.Fact] = []
    while len(facts) < number:
        fact = world.draw(rng, split)
        group = [fact]
        for _ in range(20 if hard else 0):
            new = world.edit(rng, rng.choice(group), split)
            if new is not None and new not in group and len(group) < 4:
                group.append(new)
        if len(group) == (4 if hard else 1):
            facts += [f for f in group if f not in facts]
    return facts[:number]


def mini_retrieval(
    model: Any, source: data.Source, device: str, hard: bool, languages: tuple[str, ...], number: int
) -> dict:
    """{language: [per layer]} between English and each language."""
    facts = scenes("dev", hard, number)
    vectors = {}
    for language in languages:
        ids = source.encode([grammar.join(grammar.statement(f, language)) for f in facts])
        vectors[language] = layer_vectors(model, ids, device)
    return {language: top1(vectors["en"], vectors[language]) for language in languages if language != "en"}


def real_retrieval(model: Any, source: data.Source, device: str) -> dict:
    """{language: [per layer]} on the NTREX lines held out of pretraining."""
    table = source.aligned.get("ntrex", {})
    if "en" not in table:
        return {}
    numbers = range(corpus.HOLDOUT["ntrex"], min(len(t) for t in table.values()))
    numbers = [i for i in numbers if all(len(t[i]) for t in table.values())]
    vectors = {name: layer_vectors(model, [t[i] for i in numbers], device) for name, t in table.items()}
    return {name: top1(vectors["en"], v) for name, v in vectors.items() if name != "en"}


def quick(model: Any, source: data.Source, device: str) -> str:
    """Short retrieval line for the log: mean over four languages, per layer."""
    model.eval()
    parts = []
    for hard in (False, True):
        found = mini_retrieval(model, source, device, hard, ("en", "de", "hi", "tr", "zh"), 200)
        means = np.mean(list(found.values()), axis=0)
        parts.append(("hard " if hard else "easy ") + " ".join(f"{m:.0f}" for m in means))
    model.train()
    return " / ".join(parts)


def rates(tokenizer: Any, source: data.Source) -> dict:
    """Unknown tokens and pieces per word of every language, in its pretraining lines and in the mini world."""
    out: dict[str, dict[str, float]] = {}
    backend = tokenizer.backend_tokenizer
    if source.real_dir is not None:
        for path in sorted((source.real_dir / "mono").glob("*.txt")):
            lines = path.read_text(encoding="utf-8").split("\n")[::7][:4000]
            ids = [i for e in backend.encode_batch(lines, add_special_tokens=False) for i in e.ids]
            spaced = sum(len(line.split()) for line in lines)
            out[path.stem] = {
                "unknown_percent": round(100 * ids.count(vocab.UNK) / max(1, len(ids)), 3),
                "pieces_per_word": round(len(ids) / max(1, spaced), 2),
            }
    for language in mini.LANGUAGES:
        words = mini.vocabulary(language)
        ids = [e.ids for e in backend.encode_batch(words, add_special_tokens=False)]
        out[f"mini-{language}"] = {
            "unknown_percent": round(100 * sum(i.count(vocab.UNK) for i in ids) / max(1, sum(map(len, ids))), 3),
            "pieces_per_word": round(sum(map(len, ids)) / len(ids), 3),
        }
    return out


@torch.no_grad()
def masked_accuracy(model: Any, source: data.Source, device: str, kind: str, size: int) -> float:
    """Right guesses at masked positions of fresh rows, in percent (same masking as in training)."""
    import __main__

    rng = np.random.default_rng(7)
    right = total = 0
    among = torch.tensor(source.mini_pieces(), device=device) if kind == "mini" else None
    for _ in range(12):
        rows = [source.real_row() for _ in range(32)] if kind == "real" else source.mini_rows(64)
        ids, mask, labels = __main__.mask_batch(rows, rng, size)
        _, r, n = model.loss(ids.to(device), mask.to(device), labels.to(device), among)
        right, total = right + int(r), total + n
    return round(100 * right / max(1, total), 1)


def figures(model: Any, tokenizer: Any, source: data.Source, state: dict, args: Any) -> dict:
    """Everything that training.json tells."""
    model.eval()
    every = tuple(mini.LANGUAGES)
    size = len(tokenizer)
    easy = mini_retrieval(model, source, args.device, False, every, 400)
    hard = mini_retrieval(model, source, args.device, True, every, 400)
    real = real_retrieval(model, source, args.device)
    accuracy = {"mini": masked_accuracy(model, source, args.device, "mini", size)}
    if source.mono:
        accuracy["real"] = masked_accuracy(model, source, args.device, "real", size)

    def mean(found: dict) -> list[float]:
        return [round(float(x), 1) for x in np.mean(list(found.values()), axis=0)] if found else []

    versions = {
        p: importlib.metadata.version(p)
        for p in ("torch", "transformers", "tokenizers", "sentencepiece", "numpy", "scipy")
    }
    return {
        "summary": {
            "masked_accuracy": accuracy,
            "mini_easy_by_layer": mean(easy),
            "mini_hard_by_layer": mean(hard),
            "ntrex_heldout_by_layer": mean(real),
        },
        "training": {
            "minutes": round(state["elapsed"] / 60, 1),
            "threads": args.threads,
            "cpu_minutes": round(state["cpu"] / 60, 1),
            "device": args.device,
            "steps": state["step"],
            "tokens": state["tokens"],
            "seed": args.seed,
            "mini_world": world.SALT,
            "real_text": bool(source.mono),
            "real_fraction": args.real_fraction if source.mono else 0.0,
            "lines_per_language": args.lines_per_language if source.mono else 0,
            "dropped_lines_equal_to_evaluation_rows": source.dropped,
            "held_out_line_numbers": {k: f">= {v}" for k, v in corpus.HOLDOUT.items()} if source.mono else {},
        },
        "recipe": {
            "start": f"PPMI-SVD of token by sentence number + {args.random_weight} x random unit vectors",
            "objective": "masked tokens; pairs masked on one side (60/8 %), single sentences 18-25 %",
            "contrast": f"InfoNCE .1, weight {args.contrast_weight}, mean pool of layer {args.contrast_layer}",
            "optimiser": f"Muon {args.matrix_rate} on matrices, Adam {args.rate}, token vectors at half of that",
            "precision": "bf16 products" if args.bf16 else "fp32",
            "schedule": f"100 steps warm-up, flat, linear decay over the last {args.decay:.0%} of the time",
            "batch": f"{args.threads} x {args.batch_tokens} tokens; of real text two thirds of that",
            "output": "mini batches guess among the mini world's pieces; output bias starts at log frequencies",
            "weights": "rounded to fp16; all figures are of the rounded weights",
        },
        "retrieval": {
            "pooling": "mean over tokens, raw cosine, top-1 percent, both directions, with English; layers 0 to last",
            "mini_easy_400_dev": easy,
            "mini_hard_400_dev": hard,
            "ntrex_heldout": real,
        },
        "tokenizer": rates(tokenizer, source),
        "versions": versions,
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}",
    }
