"""The verbs a form of task answers to. One deep module per kind; nothing outside branches on kind or task.

Shapes: B examples in the batch, N encoder rows (B, or B*K for choices), T tokens, D hidden size, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapters_xling.spec import TaskSpec
from adapters_xling.tasks.examples import Example, Features, Prediction

from . import options
from .vectors import Vectors

IGNORE = -100
"""Label of positions that carry no loss (torch's default `ignore_index`)."""

Batch = dict[str, Tensor]
"""Always `input_ids` (N,T) and `attention_mask` (N,T); `token_type_ids` (N,T) where the backbone marks second segments
and there are any; `labels` where the examples have gold; more by kind."""


class TokenOutput(NamedTuple):
    """The backbone's token vectors as an output layer.

    Attributes:
        vectors: the live token matrix (V,D), one row per token of the vocabulary.
        unembed: takes vectors (…,D) back to the space of the token vectors, where a method changed that space.
    """

    vectors: Tensor
    unembed: Callable[[Tensor], Tensor]


class Kind(ABC):
    """A form of task: how examples become token ids, what head reads the encoder, how its output is decoded.

    Attributes:
        name: the name used in task files.
        example_type: the example class it works on.
        trains: False for kinds without head and loss (retrieval).
        vectors: True where every example is one feature, in order, and its output one vector of the encoder's width:
            such outputs are kept on disk, and read by `decode_vectors`.
        default_options: every setting of `TaskSpec.options` it knows, with its default (shipped kinds: `options.py`).
    """

    name: ClassVar[str]
    example_type: ClassVar[type]
    trains: ClassVar[bool] = True
    vectors: ClassVar[bool] = False
    default_options: ClassVar[dict[str, Any]] = {}
    texts: ClassVar[str]
    """What `from_texts` takes, in words."""

    @property
    def pooled(self) -> bool:
        """Whether the head reads one pooled vector per row (through the shared pooler) instead of all tokens."""
        return self.name in options.POOLED

    @abstractmethod
    def check_spec(self, task: TaskSpec) -> None:
        """Refuse a task file that this kind cannot serve (labels, metrics, options).

        Raises:
            ConfigError: naming task, field and what is valid.
        """

    @abstractmethod
    def check_example(self, example: Any, task: TaskSpec, *, need_gold: bool) -> str | None:
        """Say why an example cannot be used (blank text, unknown label, span not in the context, …), or None."""

    @abstractmethod
    def from_texts(self, texts: Sequence[str], *, id: str) -> Any:
        """Make an example without gold from what a person types.

        Raises:
            DataError: when there are too few or too many texts for this kind.
        """

    @abstractmethod
    def encode(self, examples: Sequence[Example], tokenizer: Any, task: TaskSpec, *, max_length: int) -> list[Features]:
        """Turn examples into token ids of at most `max_length`. What had to be cut or split is kept in `meta`.

        Each example alone decides what becomes of it: large splits are encoded in parts.
        """

    def check_label(self, features: Features, task: TaskSpec) -> str | None:
        """Say why an encoded gold label is malformed (type, range, alignment), or None. Features without gold are
        never asked.
        """
        return None

    @abstractmethod
    def collate(self, features: Sequence[Features], *, pad_id: int) -> Batch:
        """Pad features to a batch of tensors."""

    @abstractmethod
    def make_head(self, task: TaskSpec, *, hidden_size: int, dropout: float) -> nn.Module | None:
        """Build the trainable output layers, or None where the kind has none (retrieval).

        The head maps (N,D) when `pooled`, else (N,T,D), to its output.
        """

    def fit_head(self, head: nn.Module, *, num_tokens: int, norm_epsilon: float) -> None:
        """Finish a new head whose outputs are tokens of the vocabulary; most heads need nothing.

        Args:
            head: as `make_head` made it.
            num_tokens: rows of the token matrix.
            norm_epsilon: what the backbone's own normalisations add to the variance.
        """
        return

    def apply_head(self, head: nn.Module, hidden: Tensor, batch: Batch, tokens: TokenOutput) -> Tensor:
        """Run the head over the encoder's output: (N,D) when `pooled`, else (N,T,D)."""
        return head(hidden)

    def redraw(self, features: Sequence[Features], tokenizer: Any, task: TaskSpec, *, seed: int) -> Sequence[Features]:
        """Change rows each time training draws them (masking), the same way for the same seed. By default nothing."""
        return features

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar. `logits` is what `shape_logits` returned."""

    def shape_logits(self, head_output: Tensor, batch: Batch) -> Tensor:
        """Bring the head's output into the form `loss` and `outputs` read, e.g. (B*K,1) to (B,K)."""
        return head_output

    @abstractmethod
    def outputs(self, logits: Tensor, batch: Batch) -> list[np.ndarray]:
        """One float32 array per features in the batch, without padding."""

    @abstractmethod
    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Sequence[Features],
        examples: Sequence[Example],
        task: TaskSpec,
    ) -> list[Prediction]:
        """Turn the outputs of a whole split into one prediction per example, in the order of `examples`.

        Retrieval predicts for examples with `side == "query"` only.
        """

    def decode_vectors(
        self,
        vectors: Vectors,
        examples: Sequence[Example],
        task: TaskSpec,
        *,
        device: Any = "cpu",
        on_step: Callable[[str, int, int], Any] | None = None,
    ) -> list[Prediction]:
        """Decode a whole split of unit vectors, one per example, that may lie on disk (kinds with `vectors`).

        Args:
            vectors: row i is example i's, scaled to length 1.
            examples: the split.
            task: the task.
            device: where vectors are compared.
            on_step: called with a stage's name, what is done of it and its total (progress bars).
        """
        raise NotImplementedError(f"kind {self.name!r} gives no vectors")

    def tuned_on(self, task: TaskSpec, split: str) -> str | None:
        """Split on which something must be chosen (`tune`) before this one is scored; None for most kinds."""
        return None

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float | None]:
        """Choose it from golds and predictions of that split."""
        raise NotImplementedError(f"kind {self.name!r} has nothing to choose")

    def apply(self, chosen: Mapping[str, float | None], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Predictions under what `tune` chose."""
        raise NotImplementedError(f"kind {self.name!r} has nothing to choose")

    def metrics_after_tuning(self, task: TaskSpec) -> tuple[str, ...]:
        """What predictions are scored by once `apply` has been at them."""
        return task.metrics

    @abstractmethod
    def gold_outputs(
        self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec
    ) -> list[np.ndarray]:
        """Outputs a perfect model would give; `decode` of them must score 100 (this is what `check_task` does)."""

    def unreachable(self, features: Sequence[Features], examples: Sequence[Example], task: TaskSpec) -> dict[int, str]:
        """Index of an example -> why not even a perfect model could give its gold exactly.

        By default what `encode` left in ``meta["unreachable"]``.
        """
        return {f.example: f.meta["unreachable"] for f in features if f.meta and "unreachable" in f.meta}

    @abstractmethod
    def gold(self, example: Any) -> Any:
        """The gold value in the form metrics compare with `Prediction.value`."""

    @abstractmethod
    def majority(self, train: Sequence[Example], examples: Sequence[Example], task: TaskSpec) -> list[Prediction]:
        """Predict without looking: the most frequent label of `train` (choice: always the first; span: the first
        word, or none where that is more frequent; retrieve: the first corpus sentence). The floor of every table."""


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Pad lists of ids on the right to one (N,T) tensor."""
    width = max(map(len, rows))
    out_NT = torch.full((len(rows), width), value, dtype=torch.long)
    for i, row in enumerate(rows):
        out_NT[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out_NT
