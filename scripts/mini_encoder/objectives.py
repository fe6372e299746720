"""What the transplant is trained for: to say what its donor says of the English sentence, or to fill in masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertModel, XLMRobertaModel

from .rows import NO_UNIT, Distillation, Drawer, Side
from .transplant import POSITIONS_BEFORE

APART = 0.2
APART_TEMPERATURE = 0.05
MIDDLE = 0.3
NEGATIVES = 6000
PIECE = 400
"""Tokens that a product on a CPU needs to run at full speed; a GPU is asked once."""


@dataclass
class Part:
    """One thread's share of a step.

    Attributes:
        rows: numbers of the token vectors it read (R,).
        row_gradient: their gradient (R,D).
        gradients: of the other trained parameters, in their order.
        figures: what to report: sums and counts by name.
        tokens: student's tokens read, padding left out.
    """

    rows: Tensor
    row_gradient: Tensor
    gradients: tuple[Tensor | None, ...]
    figures: dict[str, float]
    tokens: int


def wide(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask (N,1,1,T) of a mask of ones and zeros (N,T)."""
    return (1.0 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


def layers(model: XLMRobertaModel | BertModel, hidden: Tensor, mask: Tensor, wanted: set[int]) -> dict[int, Tensor]:
    """Hidden states (N,T,D) after the layers asked for, counted from 1."""
    attention, out = wide(mask, hidden.dtype), {}
    for number, layer in enumerate(model.encoder.layer[: max(wanted)], 1):
        result = layer(hidden, attention_mask=attention)
        hidden = result[0] if isinstance(result, tuple) else result
        if number in wanted:
            out[number] = hidden
    return out


def unit_means(hidden: Tensor, units: Tensor, number: int) -> Tensor:
    """Mean of the tokens of every unit, (U,D) in single precision."""
    flat, of = hidden.reshape(-1, hidden.shape[-1]), units.reshape(-1)
    keep = (of != NO_UNIT).nonzero()[:, 0]
    total = torch.zeros(number, flat.shape[1], device=flat.device).index_add(0, of[keep], flat[keep].float())
    count = torch.zeros(number, device=flat.device).index_add(0, of[keep], torch.ones(len(keep), device=flat.device))
    return total / count.clamp(min=1.0)[:, None]


def embed(model: XLMRobertaModel, vectors: Tensor, place: Tensor) -> Tensor:
    """Embedding output (N,T,D) from token vectors (R,D) and each token's place among them (N,T)."""
    block = model.embeddings
    positions = torch.arange(place.shape[1], device=place.device) + POSITIONS_BEFORE
    hidden = F.embedding(place, vectors) + block.position_embeddings(positions) + block.token_type_embeddings.weight[0]
    return block.LayerNorm(hidden)


class Distil:
    """The donor's vector of every unit, from the student's.

    One minus the cosine at the last layer, a small part of it at the highest trained layer (both sides centred there:
    BERT's inner layers point the same way for all text), and of a batch's sentences the right one should be nearest.
    """

    def __init__(self, model: XLMRobertaModel, donor: BertModel, *, middle: int, device: str) -> None:
        self.model, self.donor, self.middle, self.device = model, donor, middle, device
        self.last = model.config.num_hidden_layers
        self.centre = torch.zeros(model.config.hidden_size, device=device)
        self.head: list[nn.Parameter] = []

    def _tensors(self, side: Side) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ids, mask, types, units = (
            torch.from_numpy(one).to(self.device) for one in (side.ids, side.mask, side.types, side.units)
        )
        return ids, mask, types, units

    @torch.no_grad()
    def targets(self, batch: Distillation) -> dict[int, Tensor]:
        """Donor's vector of each of the student's units, by layer, (U,D)."""
        found: dict[int, list[Tensor]] = {self.middle: [], self.last: []}
        of = []
        for side in batch.donor.by_length(PIECE if self.device == "cpu" else batch.donor.ids.size):
            ids, mask, types, units = self._tensors(side)
            hidden = self.donor.embeddings(input_ids=ids, token_type_ids=types)
            for n, h in layers(self.donor, hidden, mask, set(found)).items():
                found[n].append(h.flatten(0, 1))
            of.append(units.flatten())
        target, units = torch.from_numpy(batch.target).to(self.device), torch.cat(of)
        return {n: unit_means(torch.cat(h), units, batch.donor_units)[target] for n, h in found.items()}

    @torch.no_grad()
    def set_centre(self, drawer: Drawer, number: int) -> None:
        """Mean of the donor's sentence vectors at the middle layer, over a few batches."""
        rows = [self.targets(batch)[self.middle][torch.from_numpy(batch.whole)] for batch in _some(drawer, number)]
        self.centre = torch.cat(rows).mean(0)

    def part(self, drawer: Drawer, trained: list[nn.Parameter], *, bf16: bool) -> Part:
        """Draw a batch and differentiate; parameters are only read."""
        batch = drawer.distillation()
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            wanted = self.targets(batch)
            ids, mask, _, units = self._tensors(batch.student)
            rows, place = ids.unique(return_inverse=True)
            vectors = self.model.embeddings.word_embeddings.weight.detach()[rows].requires_grad_()
            found = layers(self.model, embed(self.model, vectors, place), mask, {self.middle, self.last})
        number, whole = len(batch.target), torch.from_numpy(batch.whole).to(self.device)
        mine = {n: unit_means(h, units, number) for n, h in found.items()}
        near = 1 - F.cosine_similarity(mine[self.last], wanted[self.last], dim=-1)
        inner = 1 - F.cosine_similarity(mine[self.middle] - self.centre, wanted[self.middle] - self.centre, dim=-1)
        # A word counts as much as its share of a sentence, so that long rows of words do not drown the sentences.
        weight = torch.where(whole, 1.0, 0.15)
        loss = ((near + MIDDLE * inner) * weight).sum() / weight.sum()
        figures = {"near": float(near.detach()[whole].sum()), "sentences": float(whole.sum())}
        figures |= {"words near": float(near.detach()[~whole].sum()), "words": float((~whole).sum())}
        if whole.sum() > 1:
            a = F.normalize(mine[self.last][whole], dim=-1)
            b = F.normalize(wanted[self.last][whole], dim=-1)
            scores = a @ b.T / APART_TEMPERATURE
            name = torch.from_numpy(batch.target).to(self.device)[whole]
            same = (name[:, None] == name[None, :]) & ~torch.eye(len(name), dtype=torch.bool, device=self.device)
            scores = scores.masked_fill(same, -1e4)
            gold = torch.arange(len(name), device=self.device)
            loss = loss + APART * F.cross_entropy(scores, gold) * float(weight[whole].sum() / weight.sum())
            figures["found"] = float((scores.argmax(1) == gold).sum())
        grads = torch.autograd.grad(loss, [vectors, *trained], allow_unused=True)
        return Part(rows, grads[0], tuple(grads[1:]), figures, int(mask.sum()))


class Masked(nn.Module):
    """XLM-R's masked-token objective; guesses are among the batch's pieces and some thousand drawn at random."""

    def __init__(self, model: XLMRobertaModel, *, mask_id: int, device: str) -> None:
        super().__init__()
        width = model.config.hidden_size
        self.model, self.mask_id, self.device = [model], mask_id, device
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(model.config.vocab_size))
        with torch.no_grad():
            self.dense.weight.copy_(torch.eye(width) + 0.02 * torch.randn(width, width))
            self.dense.bias.zero_()
        self.head = list(self.parameters())

    def part(self, drawer: Drawer, trained: list[nn.Parameter], *, bf16: bool) -> Part:
        """Draw a batch and differentiate; parameters are only read."""
        model = self.model[0]
        size = model.config.vocab_size
        side, gold = drawer.masked(mask_id=self.mask_id, size=size)
        ids, labels = torch.from_numpy(side.ids), torch.from_numpy(gold)
        mask = torch.from_numpy(side.mask).to(self.device)
        negatives = torch.from_numpy(drawer.rng.integers(4, size - 1, NEGATIVES))
        hidden_ids = labels[labels != NO_UNIT]
        rows, place = torch.cat([ids.reshape(-1), hidden_ids, negatives]).unique(return_inverse=True)
        tokens = ids.numel()
        target = place[tokens : tokens + len(hidden_ids)].to(self.device)
        rows = rows.to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=bf16):
            vectors = model.embeddings.word_embeddings.weight.detach()[rows].requires_grad_()
            at = place[:tokens].reshape(ids.shape).to(self.device)
            last = model.config.num_hidden_layers
            hidden = layers(model, embed(model, vectors, at), mask, {last})[last]
            guess = self.norm(F.gelu(self.dense(hidden[(labels != NO_UNIT).to(self.device)])))
            logits = (guess @ vectors.T).float() + self.bias[rows]
        loss = F.cross_entropy(logits, target)
        figures = {"right": float((logits.argmax(-1) == target).sum()), "masked": float(len(target))}
        figures["loss"] = float(loss.detach()) * len(target)
        grads = torch.autograd.grad(loss, [vectors, *trained], allow_unused=True)
        return Part(rows, grads[0], tuple(grads[1:]), figures, int(mask.sum()))


def _some(drawer: Drawer, number: int) -> list[Distillation]:
    return [drawer.distillation() for _ in range(number)]


class RowAdam:
    """Adam on the rows of a table that a step has read; a row's bias correction counts its own steps."""

    def __init__(self, table: Tensor, *, betas: tuple[float, float] = (0.9, 0.98), epsilon: float = 1e-8) -> None:
        self.table, self.betas, self.epsilon = table, betas, epsilon
        self.first, self.second = torch.zeros_like(table), torch.zeros_like(table)
        self.steps = torch.zeros(len(table), 1, device=table.device)

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, rate: float) -> None:
        """Move ``rows`` (R,) along ``gradient`` (R,D)."""
        beta, gamma = self.betas
        m = self.first[rows].lerp_(gradient, 1 - beta)
        v = self.second[rows].mul_(gamma).addcmul_(gradient, gradient, value=1 - gamma)
        n = self.steps[rows] + 1
        self.first[rows], self.second[rows], self.steps[rows] = m, v, n
        change = (m / (1 - beta**n)) / ((v / (1 - gamma**n)).sqrt() + self.epsilon)
        self.table[rows] -= rate * change

    def state(self) -> dict[str, Any]:
        """Everything a later process needs."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps.copy_(state["steps"])


def combine(parts: list[Part]) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Mean of the threads' gradients: rows read by any, their gradient, and those of the other parameters."""
    rows, place = torch.cat([p.rows for p in parts]).unique(return_inverse=True)
    gradient = torch.zeros(len(rows), parts[0].row_gradient.shape[1], device=rows.device)
    gradient.index_add_(0, place, torch.cat([p.row_gradient.float() for p in parts]))
    others: list[Tensor | None] = []
    for found in zip(*(p.gradients for p in parts), strict=True):
        present = [g for g in found if g is not None]
        others.append(sum(present[1:], present[0]) / len(parts) if present else None)
    return rows, gradient / len(parts), others
