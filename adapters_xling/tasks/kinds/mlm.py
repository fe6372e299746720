"""Masked language modelling: text in any language, some of whose tokens must be guessed.

The head's output matrix is the encoder's own token matrix, so that what is tied stays tied: a method that trains the
token vectors trains both uses of them, one that freezes them freezes both.

Shapes: B features (= N rows), T tokens, D hidden size, V tokens of the vocabulary, M masked tokens of the batch.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from adapters_xling.errors import ConfigError, DataError
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction, TextExample

from .base import IGNORE, Batch, Kind, TokenOutput, pad
from .common import Template, blank, check_task_file, linear, options_of, pad_rows, tokenize, wrong_type
from .options import DEFAULTS

NO_TOKEN = -1
"""What the floor predicts: no token at all."""


class MaskedHead(nn.Module):
    """Dense, GELU and normalisation, then the token matrix and a bias per token: (M,D) -> (M,V).

    The form of XLM-R's, RoBERTa's and BERT's own heads, so that their pretrained weights fit. It has no dropout there
    either.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = linear(hidden_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size)
        self.bias = nn.Parameter(torch.zeros(0))

    def forward(self, hidden: Tensor, tokens: TokenOutput) -> Tensor:
        """Map encoder vectors to one logit per token of the vocabulary."""
        hidden = tokens.unembed(self.layer_norm(functional.gelu(self.dense(hidden))))
        return functional.linear(hidden, tokens.vectors, self.bias)


class MaskedText(Kind):
    """Guess masked tokens: 15 % of a text's tokens, of which 80 % are masked, 10 % replaced, 10 % left (BERT, XLM-R).

    A text longer than a row goes on in the next one. What `encode` masks follows from the text alone, so dev scores
    are comparable; training masks anew every time it meets a row (`redraw`).
    """

    name = "mlm"
    texts = "one text"
    example_type = TextExample
    default_options = DEFAULTS["mlm"]

    def check_spec(self, task: TaskSpec) -> None:
        """See `Kind.check_spec`; the shares must be shares."""
        check_task_file(self, task, needs_labels=False)
        values = options_of(self, task)
        if not 0 < values["mask_rate"] < 1:
            raise ConfigError(
                f"task {task.name!r}: options.mask_rate must be above 0 and below 1, got {values['mask_rate']!r}"
            )
        shares = (values["masked"], values["replaced"])
        if min(shares) < 0 or sum(shares) > 1:
            raise ConfigError(
                f"task {task.name!r}: options.masked and options.replaced are shares of the chosen tokens; they must "
                f"not be negative and make at most 1, got {shares[0]!r} and {shares[1]!r}"
            )

    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """See `Kind.check_example`; every text brings its own gold."""
        if reason := wrong_type(self, example):
            return reason
        return "text is blank" if blank(example.text) else None

    def from_texts(self, texts: Sequence[str], *, id: str) -> TextExample:
        """Make an example: one text."""
        if len(texts) != 1:
            raise DataError(f"{len(texts)} texts given; this kind of task takes {self.texts}")
        return TextExample(id=id, text=texts[0])

    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """See `Kind.encode`; `label` holds the gold token of every masked position, IGNORE elsewhere."""
        rows: Sequence[TextExample] = examples  # type: ignore[assignment]
        template = Template.of(tokenizer, pair=False)
        room = template.room(max_length)
        masking = _Masking(tokenizer, task)
        features = []
        for i, (example, ids) in enumerate(zip(rows, tokenize(tokenizer, [row.text for row in rows]), strict=True)):
            for at in range(0, len(ids), room):
                seed = hashlib.sha256(f"{at}:{example.text}".encode()).digest()[:8]
                row, label = masking.draw(
                    template.join(ids[at : at + room]), random.Random(int.from_bytes(seed, "big"))
                )
                features.append(Features(example=i, input_ids=[row], label=label))
        return features

    def redraw(self, features: Sequence[Features], tokenizer: Any, task: TaskSpec, *, seed: int) -> list[Features]:
        """See `Kind.redraw`: the same rows with other tokens masked."""
        masking, rng = _Masking(tokenizer, task), random.Random(seed)
        drawn = []
        for feature in features:
            row, label = masking.draw(_original(feature), rng)
            drawn.append(Features(example=feature.example, input_ids=[row], label=label, meta=feature.meta))
        return drawn

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """See `Kind.check_label`."""
        if not isinstance(features.label, list) or len(features.label) != len(features.input_ids[0]):
            return "does not have one label per token"
        if all(label == IGNORE for label in features.label):
            return "has no token that could be masked: all of them are unknown to the tokenizer"
        return None

    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """See `Kind.collate`: `labels` (N,T)."""
        return {**pad_rows(features, pad_id), "labels": pad([feature.label for feature in features], IGNORE)}

    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module:
        """See `Kind.make_head`: (M,D) -> (M,V), with the token matrix; `fit_head` gives it its bias."""
        return MaskedHead(hidden_size)

    def fit_head(self, head: nn.Module, *, num_tokens: int, norm_epsilon: float) -> None:
        """Give the head one bias per token, and its normalisation the backbone's epsilon."""
        assert isinstance(head, MaskedHead)
        head.bias = nn.Parameter(torch.zeros(num_tokens))
        head.layer_norm.eps = norm_epsilon

    def apply_head(self, head: nn.Module, hidden: Tensor, batch: Batch, tokens: TokenOutput) -> Tensor:
        """Logits (M,V) of the masked tokens alone, for V is large; of all tokens (N,T,V) in a batch without labels."""
        return head(hidden[batch["labels"] != IGNORE] if "labels" in batch else hidden, tokens)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy over the vocabulary, mean over the masked tokens; 0 where no row has any."""
        gold_M = batch["labels"][batch["labels"] != IGNORE]
        return functional.cross_entropy(logits.float(), gold_M) if len(gold_M) else logits.float().sum()

    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """The most probable token of every masked position of each row; ids below 2**24 are exact in float32."""
        found_M = logits.argmax(-1).cpu().numpy().astype(np.float32)
        counts_N = (batch["labels"] != IGNORE).sum(1).tolist()
        return np.split(found_M, np.cumsum(counts_N)[:-1])

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """For every text the pairs (guessed token, gold token) of its masked positions."""
        pairs: dict[int, list[tuple[int, int]]] = {}
        for feature, found in zip(features, outputs, strict=True):
            gold = [label for label in feature.label if label != IGNORE]
            pairs.setdefault(feature.example, []).extend(zip(map(int, found), gold, strict=True))
        return [Prediction(example.id, tuple(pairs.get(i, ()))) for i, example in enumerate(examples)]

    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """See `Kind.gold_outputs`."""
        return [np.array([label for label in f.label if label != IGNORE], dtype=np.float32) for f in features]

    def gold(self, example: Any) -> str:
        """The text; the gold tokens stand in the predictions, for only a tokenizer knows them."""
        return example.text

    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """No token, which is never right: the most frequent one is known to a tokenizer only."""
        return [Prediction(example.id, ((NO_TOKEN, 0),)) for example in examples]


class _Masking:
    """The rule by which tokens are chosen and changed, for one tokenizer and task."""

    def __init__(self, tokenizer: Any, task: TaskSpec) -> None:
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                f"task {task.name!r}: this backbone's tokenizer has no mask token, so it cannot learn kind 'mlm'"
            )
        self.mask_id, self.num_ids = int(tokenizer.mask_token_id), len(tokenizer)
        self.special = frozenset(tokenizer.all_special_ids)
        values = {**DEFAULTS["mlm"], **task.options}
        self.rate, self.masked = values["mask_rate"], values["masked"]
        self.changed = values["masked"] + values["replaced"]

    def draw(self, ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
        """Mask one row; gives its ids and its labels.

        The share is met on average by rounding up or down at random, as in fairseq, which pretrained XLM-R; at least
        one token is chosen. Special tokens, the unknown one included, are neither chosen nor drawn as replacement.
        """
        row, labels = list(ids), [IGNORE] * len(ids)
        places = [i for i, token in enumerate(ids) if token not in self.special]
        number = min(len(places), max(1, int(self.rate * len(places) + rng.random())))
        for done in range(number):
            other = done + int(rng.random() * (len(places) - done))
            places[done], places[other] = places[other], places[done]
            at = places[done]
            labels[at] = ids[at]
            draw = rng.random()
            if draw < self.masked:
                row[at] = self.mask_id
            elif draw < self.changed:
                row[at] = self._any(rng)
        return row, labels

    def _any(self, rng: random.Random) -> int:
        while (token := int(rng.random() * self.num_ids)) in self.special:
            pass
        return token


def _original(feature: Features) -> list[int]:
    """A row as it was before anything was masked."""
    return [
        token if label == IGNORE else label for token, label in zip(feature.input_ids[0], feature.label, strict=True)
    ]
