"""The live model: a bare encoder, the head stack that is ours, and the one forward pass over both.

Shapes: N encoder rows, T tokens, D hidden size, C outputs of a head.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from adapters_xling.errors import ConfigError, ZooError, unknown
from adapters_xling.methods import Method, Trainable
from adapters_xling.methods.slots import has_slot, slot_name
from adapters_xling.prefix_cache import PrefixCache
from adapters_xling.spec import Attention, BackboneId, Base, Pooling, Route, TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.kinds.base import Batch, TokenOutput
from adapters_xling.tasks.kinds.common import Template
from adapters_xling.tasks.kinds.retrieve import POOLINGS
from adapters_xling.zoo import HeadCard

from .backbone import LoadedBackbone
from .compiled import Compiled
from .last_layer import can_be_split
from .layers import run_layers
from .packing import Packing, packing_of
from .prefix import Prefix

_HEAD_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
ENCODER_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Tensors of a batch that the encoder reads; the last is there only where the backbone marks second segments."""


class Pooler(nn.Module):
    """Dense map and tanh between the pooled vector and a classifying head.

    It belongs to the head stack, as in the reference implementation's classifiers: trained by every method, kept in
    the entry, and it may travel to the next task while the head does not.
    """

    def __init__(self, hidden_size: int, *, pooling: Pooling = "first") -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size * (4 if pooling == "pair" else 1), hidden_size)

    def forward(self, pooled_ND: Tensor) -> Tensor:
        """Map (N,D), or (N,4D) of pairs, to (N,D)."""
        return torch.tanh(self.dense(pooled_ND))


class Turns:
    """Whose route a shared encoder follows; switching takes as long with a hundred entries as with two."""

    def __init__(self) -> None:
        self.whose: Model | None = None

    def take(self, model: Model) -> None:
        """Let the encoder follow a model's route, unless it does already."""
        if self.whose is not model:
            assert model.route is not None
            model.method.activate(model.encoder, model.route)
            self.whose = model


class Model(nn.Module):
    """Encoder, pooler and heads with the method that changes the encoder.

    Frozen modules stay in eval mode whatever happens: `train()` reaches heads, pooler and `trainable.modules` only, so
    that dropout acts where something learns and nowhere else.

    Attributes:
        encoder: the family's bare encoder, with whatever slots the method put in.
        pooler: shared by all pooled kinds; None until a head needs it.
        heads: output layers by head name.
        head_cards: what each head is, as the card will say it.
        trainable: what the run may change in the encoder.
        pooling: how the token vectors of a row become one: the first token's, their mean, or features that compare the
            two segments (`pair_features`).
        dropout: the recipe's; of every head, and of what the run trains of the backbone itself (`set_dropout`). A slot
            has the dropout its method's settings say, and what is frozen has none, being in eval mode.
        backbone_fingerprint: of the tensors as loaded, before any slot.
        backbone_licence: what the backbone's folder says; None where nothing or where `backbones.py` knows.
        route: slots this model runs over; None for the bare backbone.
        turns: whose route the encoder follows now, where several models share it.
        prefix: hidden states of the frozen layers, where they are kept; None where they are not.
        attention: "packed" leaves padding out of every layer, "padded" never does, "auto" does where variable-length
            attention makes it faster (`packing`). Results differ by rounding, and by what dropout draws.
        compiled: the encoder's passes through `torch.compile`; None for those of the library.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        method: Method,
        *,
        pooling: Pooling = "first",
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder: Any = loaded.encoder
        self.pooler: Pooler | None = None
        self.heads = nn.ModuleDict()
        self.head_cards: dict[str, HeadCard] = {}
        self.method = method
        self.family, self.row, self.tokenizer = loaded.family, loaded.row, loaded.tokenizer
        self.backbone: BackboneId = loaded.id
        self.backbone_fingerprint, self.backbone_licence = loaded.fingerprint, loaded.licence
        self.trainable = Trainable(parameters=frozenset(), modules=())
        self.pooling, self.dropout, self.seed = pooling, dropout, seed
        self.read_layer = method.read_layer(self.num_layers)
        self._sentences_at: tuple[int | None, str | None] = (None, None)
        self.route: Route | None = None
        self.turns: Turns | None = None
        self.prefix: Prefix | None = None
        self.attention: Attention = "auto"
        self.compiled: Compiled | None = None
        self.train(False)

    # --- facts --------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the encoder's weights are."""
        return next(self.encoder.parameters()).device

    @property
    def pad_id(self) -> int:
        """Token id that fills a batch up."""
        return int(self.tokenizer.pad_token_id)

    @property
    def hidden_size(self) -> int:
        """Width of the encoder."""
        return int(self.encoder.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """Transformer layers of the encoder."""
        return len(self.encoder.get_submodule(self.family.layers))

    @property
    def max_positions(self) -> int:
        """Most tokens a row can have."""
        return int(self.encoder.config.max_position_embeddings) - self.family.position_offset

    # --- forward ------------------------------------------------------------------------------------------------

    def encode(
        self,
        batch: Mapping[str, Tensor],
        start_layer: int = 0,
        hidden: Tensor | None = None,
        *,
        layer: int | None = None,
        first_token: bool = False,
    ) -> Tensor:
        """Run the encoder; the only place where this happens.

        Args:
            batch: `input_ids` and `attention_mask`, both (N,T), and `token_type_ids` where there are any.
            start_layer: hidden state to start from, when `hidden` holds it (0 is the embeddings' output).
            hidden: (N,T,D) as an earlier call returned for ``layer=start_layer`` of the same batch and route.
            layer: hidden state to return; None for the one the heads read.
            first_token: give that of the first token alone, (N,1,D), whose other tokens are then not computed.

        Returns:
            Hidden state of every token, (N,T,D); at padding whatever, which nothing reads.

        Raises:
            ConfigError: for a layer the encoder does not have, or a start without its hidden state.
        """
        if self.turns is not None and self.route is not None:
            self.turns.take(self)
        if hidden is None and start_layer == 0 and self.prefix is not None:
            start_layer, hidden = self.prefix.start(_inputs(batch), self._stop(layer))
        packing = packing_of(self, batch)
        return self.encode_now(batch, start_layer, hidden, layer=layer, first_token=first_token, packing=packing)

    def encode_now(
        self,
        batch: Mapping[str, Tensor],
        start_layer: int = 0,
        hidden: Tensor | None = None,
        *,
        layer: int | None = None,
        first_token: bool = False,
        packing: Packing | None = None,
    ) -> Tensor:
        """`encode` over whatever route the encoder follows now, all of it computed; padded or as packed."""
        stop = self._stop(layer)
        if not 0 <= start_layer <= stop <= self.num_layers or (start_layer > 0 and hidden is None):
            raise ConfigError(
                f"cannot encode from hidden state {start_layer} ({'given' if hidden is not None else 'not given'}) to "
                f"{stop}: this encoder has hidden states 0 to {self.num_layers}, and a start above 0 needs its tensor"
            )
        inputs = _inputs(batch)
        if self.compiled is not None:
            hidden = self.compiled(inputs, self.route, start=start_layer, hidden=hidden, stop=stop)
            return hidden[:, :1] if first_token else hidden
        alone = first_token and self._splits(stop)
        if hidden is None and stop == self.num_layers and packing is None and not alone:
            hidden = self.encoder(**inputs).last_hidden_state
        else:
            how: dict[str, Any] = {"start": start_layer, "hidden": hidden, "stop": stop}
            with self.method.context(self.encoder, **inputs):
                hidden = run_layers(self.encoder, self.family, inputs, **how, first_token=alone, packing=packing)
        return hidden[:, :1] if first_token else hidden

    def encode_rows(
        self,
        batch: Mapping[str, Tensor],
        rows: Sequence[tuple[slice, Route]],
        *,
        layer: int | None = None,
        first_token: bool = False,
    ) -> Tensor:
        """`encode` of a batch whose rows follow routes of their own.

        Args:
            batch: inputs of the encoder, (N,T) each.
            rows: a route over slots for each part of the batch; they follow each other and cover it.
            layer: hidden state to return; None for the one the heads read.
            first_token: give that of the first token alone, (N,1,D).

        Returns:
            Hidden state of every token, (N,T,D).
        """
        assert self.turns is not None
        inputs = _inputs(batch)
        if self.compiled is not None:
            hidden = self.compiled.by_rows(inputs, rows, stop=self._stop(layer))
            return hidden[:, :1] if first_token else hidden
        packing = packing_of(self, inputs, parts=[part.stop - part.start for part, _ in rows])
        if packing is not None:
            rows = [(part, route) for part, (_, route) in zip(packing.parts, rows, strict=True)]
        self.turns.whose = None  # whoever is next switches back
        self.method.activate(self.encoder, Base(), rows)
        alone = first_token and packing is None  # a route counts tokens in a packed batch, which the last layer has not
        hidden = self.encode_now(inputs, layer=layer, first_token=alone, packing=packing)
        self.method.activate(self.encoder, Base())
        return hidden[:, :1] if first_token else hidden

    def _splits(self, layer: int) -> bool:
        """Whether a layer may give its first token alone. Where no slot acts its output may be kept, whole."""
        method, blocks = self.method, self.encoder.get_submodule(self.family.layers)
        acts = layer >= 1 and method.lowest_layer(self.num_layers) <= layer
        return acts and can_be_split(blocks[layer - 1]) and method.acts_by_token(self.encoder)

    def _stop(self, layer: int | None) -> int:
        """Number of a hidden state; None is the one the heads read."""
        layer = self.read_layer if layer is None else layer
        return self.num_layers if layer is None else layer

    def set_attention(self, setting: str) -> None:
        """Say whether padding is left out of the layers; see `attention`.

        Raises:
            UnknownName: for another word.
        """
        known = get_args(Attention)
        if setting not in known:
            raise unknown("attention", setting, known)
        self.attention = setting  # type: ignore[assignment]

    def keep_prefix(self, setting: PrefixCache) -> None:
        """Keep the hidden states of the layers below everything that trains, as the setting says; none by OFF.

        What they depend on beside a row's tokens must be as it will stay: route, frozen slots, what trains.

        Raises:
            ConfigError: when the folder that the setting names cannot be made.
        """
        prefix = Prefix(self, setting) if setting.is_on else None
        self.prefix = prefix if prefix is not None and prefix.layer > 0 else None

    def compile_passes(self, beside: Model | None = None) -> None:
        """Run the encoder through `torch.compile` from now on, for inference; heads are as before.

        Args:
            beside: a model in the same encoder that does so already.

        Raises:
            ConfigError: for a model in training.
        """
        if self.trainable.parameters:
            raise ConfigError("passes are compiled for inference only: open a finished entry (open_entry)")
        shared = beside.compiled if beside is not None and beside.encoder is self.encoder else None
        self.compiled = shared or Compiled(self.encoder, self.family, self.method)

    def forward(
        self,
        batch: Batch,
        task: TaskSpec,
        *,
        inputs: Mapping[str, Tensor] | None = None,
        start_layer: int = 0,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """Compute what the task's kind calls logits: head outputs, or one vector per row for retrieval.

        Args:
            batch: as the kind's `collate` made it.
            task: decides kind and head.
            inputs: what the encoder reads instead of the batch: its rows and others behind them, filled up to another
                width (`batching.filled`).
            start_layer: hidden state of `inputs` to start from; see `encode`.
            hidden: its tensor.

        Raises:
            ConfigError: when the model has no head for the task, or one with other labels.
        """
        output = self.head_output(batch, task, inputs=inputs, start_layer=start_layer, hidden=hidden)
        return kinds.get(task.kind).shape_logits(output, batch)

    def head_output(
        self,
        batch: Mapping[str, Tensor],
        task: TaskSpec,
        *,
        inputs: Mapping[str, Tensor] | None = None,
        start_layer: int = 0,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """What the task's head makes of the encoder rows, before the kind shapes it: (N,C), (N,T,C) or vectors (N,D).

        Needs nothing but what `encode` does. Takes and raises what `forward` does.
        """
        kind = kinds.get(task.kind)
        if kind.trains:
            self.head_of(task)  # refused before anything is computed
        read = batch if inputs is None else inputs
        how: dict[str, Any] = {"layer": self.layer_for(task), "first_token": self.reads_first_token(task)}
        hidden = self.encode(read, start_layer, hidden, **how)
        if inputs is None:
            return self.read(hidden, batch, task)
        rows, width = batch["input_ids"].shape
        if kind.trains and not kind.pooled:
            return self.read(hidden[:rows, :width], batch, task)
        return self.read(hidden, inputs, task)[:rows]

    def reads_first_token(self, task: TaskSpec) -> bool:
        """Whether a task's head reads the first token of a row and nothing else."""
        kind = kinds.get(task.kind)
        return kind.trains and kind.pooled and self.pooling == "first"

    def layer_for(self, task: TaskSpec) -> int | None:
        """Hidden state that a task reads; None for the last."""
        return self.read_layer if kinds.get(task.kind).trains else self.sentences_at(task)[0]

    def read(self, hidden: Tensor, batch: Mapping[str, Tensor], task: TaskSpec) -> Tensor:
        """`head_output` from the hidden state that the task reads, (N,T,D) or the first token's (N,1,D).

        Raises as `forward` does.
        """
        kind = kinds.get(task.kind)
        if not kind.trains:
            return self.sentence_vectors(hidden, batch["attention_mask"], self.sentences_at(task)[1])
        head = self.head_of(task)
        if kind.pooled:
            assert self.pooler is not None
            hidden = self.pooler(self.pooled(hidden, batch))
        return kind.apply_head(head, hidden, dict(batch), self.tokens())

    def pooled(self, hidden_NTD: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """What the pooler reads of every row, (N,D) or of pairs (N,4D); see `pooling`."""
        if self.pooling == "pair":
            separator = int(self.tokenizer.sep_token_id)
            return pair_features(hidden_NTD, batch["attention_mask"], batch["input_ids"], separator=separator)
        return pool(hidden_NTD, batch["attention_mask"], self.pooling)

    def tokens(self) -> TokenOutput:
        """The encoder's own token vectors as an output layer: the live matrix, so that what is tied stays tied."""
        vectors = self.encoder.get_submodule(self.family.word_embeddings).weight
        return TokenOutput(vectors, functools.partial(self.method.unembed, self.encoder))

    # --- sentences ----------------------------------------------------------------------------------------------

    def read_sentences_at(self, *, layer: int | None = None, pooling: str | None = None) -> None:
        """Set where retrieval reads sentences, over what task, method and backbone say; None leaves it to them.

        Raises:
            ConfigError: for a layer the encoder does not have.
            UnknownName: for an unknown pooling.
        """
        if layer is not None and not 0 <= layer <= self.num_layers:
            raise ConfigError(
                f"sentences cannot be read at layer {layer}: backbone {self.row.name!r} has hidden states 0 "
                f"(embeddings) to {self.num_layers}"
            )
        if pooling is not None and pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        self._sentences_at = (layer, pooling)

    def sentences_at(self, task: TaskSpec) -> tuple[int, str]:
        """Hidden state and pooling that retrieval reads: what was set, else the task's, the method's, the backbone's.

        Raises:
            ConfigError: when the task names a layer the encoder does not have.
        """
        layer, pooling = self._sentences_at
        options = task.options
        if layer is None and options.get("layer", -1) >= 0:
            layer = options["layer"]
            if layer > self.num_layers:
                raise ConfigError(
                    f"task {task.name!r}: options.layer is {layer}, but backbone {self.row.name!r} has hidden states "
                    f"0 to {self.num_layers}; give another with --layer"
                )
        if layer is None:
            layer = self.row.retrieval_layer if self.read_layer is None else self.read_layer
        return layer, pooling or options.get("pooling") or self.row.retrieval_pooling

    def sentence_vectors(self, hidden_NTD: Tensor, mask_NT: Tensor, pooling: str) -> Tensor:
        """One vector (N,D) per sentence from its tokens' (N,T,D); see `pool`."""
        before, after = (0, 0)
        if pooling == "mean-text":
            before, after = map(len, Template.of(self.tokenizer, pair=False).parts)
        return pool(hidden_NTD, mask_NT, pooling, before=before, after=after)

    def all_layers(self, batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Every hidden state (N,T,D) in turn, from the embeddings' output (0) to the last, in one pass."""
        hidden = self.encode(batch, layer=0)
        yield hidden
        for layer in range(1, self.num_layers + 1):
            hidden = self.encode(batch, layer - 1, hidden, layer=layer)
            yield hidden

    # --- heads --------------------------------------------------------------------------------------------------

    def add_head(self, task: TaskSpec) -> None:
        """Add a fresh head for a task, and the pooler if this is the first head that reads one.

        Fresh weights follow from the seed and the head's name alone, so that methods are compared from the same heads.
        A head that is already there is shared, when form and labels agree.

        Raises:
            ConfigError: when the head exists with other labels.
        """
        kind = kinds.get(task.kind)
        name = task.head_name
        if name in self.head_cards:
            self.head_of(task)
            return
        head = kind.make_head(task, hidden_size=self.hidden_size, dropout=self.dropout)
        if head is None:
            return
        epsilon = float(self.encoder.config.layer_norm_eps)
        kind.fit_head(head, num_tokens=len(self.tokens().vectors), norm_epsilon=epsilon)
        self.heads[_safe(name)] = initialised(head, self.seed, name).to(self.device)
        self.head_cards[name] = HeadCard(kind=task.kind, labels=task.labels, task=task.name)
        if kind.pooled and self.pooler is None:
            pooler = Pooler(self.hidden_size, pooling=self.pooling)
            self.pooler = initialised(pooler, self.seed, "pooler").to(self.device)

    def head_of(self, task: TaskSpec) -> nn.Module:
        """The head a task uses.

        Raises:
            ConfigError: when there is none, or its outputs mean something else than the task's labels.
        """
        name = task.head_name
        if name not in self.head_cards:
            raise ConfigError(
                f"no head {name!r} for task {task.name!r}; this model has: {', '.join(self.head_cards) or 'none'}. "
                f"Train one with `xling train {task.name}`"
            )
        card = self.head_cards[name]
        if card.kind != task.kind or card.labels != task.labels:
            raise ConfigError(
                f"head {name!r} was trained on task {card.task!r} as {card.kind} with labels {list(card.labels)}; "
                f"task {task.name!r} is {task.kind} with labels {list(task.labels)}. Give the task a head of its own"
            )
        return self.heads[_safe(name)]

    def head_state(self) -> dict[str, Tensor]:
        """Tensors of pooler and heads, by the names they have in `heads.safetensors`."""
        return {name: t for name, t in self.state_dict().items() if name.startswith(("pooler.", "heads."))}

    def add_heads(self, cards: Mapping[str, HeadCard], tensors: Mapping[str, Tensor]) -> None:
        """Add the heads of an entry with its trained weights; the cards say all that is needed to build them.

        Raises:
            ZooError: when weights are missing, unexpected or of another shape.
        """
        for name, card in cards.items():
            if not _HEAD_NAME.fullmatch(name) or hasattr(nn.ModuleDict, _safe(name)):
                raise ZooError(f"{name!r} is no name of a head: lower-case letters, digits, '.', '_' and '-' are valid")
            self.add_head(task_of_head(name, card))
        own = self.head_state()
        wrong = sorted(set(own) ^ set(tensors)) or [name for name in own if own[name].shape != tensors[name].shape]
        if wrong:
            raise ZooError(
                f"heads.safetensors does not hold the heads its card describes ({', '.join(wrong[:3])}); "
                "pull the entry again or retrain it"
            )
        self.load_state_dict(dict(tensors), strict=False)

    def penalty(self) -> Tensor | None:
        """What training adds to a loss for the slot's own weights; None for nothing."""
        return self.method.penalty(self.encoder, slot_name(0))

    # --- modes and weights --------------------------------------------------------------------------------------

    def set_dropout(self) -> None:
        """Give the backbone's own dropouts inside `trainable.modules` the model's rate instead of their configured one.

        Both forms are set: dropout modules, and the plain number that attention kernels are called with.
        """
        training = {id(module) for part in self.trainable.modules for module in part.modules()}
        for name, module in self.encoder.named_modules():
            if id(module) not in training or has_slot(name):
                continue
            if isinstance(module, nn.Dropout):
                module.p = self.dropout
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = self.dropout

    def train(self, mode: bool = True) -> Model:
        """Put what learns in train mode and everything else in eval mode."""
        super().train(False)
        if mode:
            self.training = True
            for module in (*self.trainable.modules, self.heads, *([self.pooler] if self.pooler else [])):
                module.train()
        return self

    def eval_mode(self) -> Model:
        """Same as ``train(False)``."""
        return self.train(False)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything an optimiser may change: pooler, heads and the method's own parameters."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def trainable_state(self) -> dict[str, Tensor]:
        """Copies of the trainable parameters in main memory."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.trainable_parameters().items()}

    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Put the weights of `trainable_state` back."""
        own = self.trainable_parameters()
        assert set(own) == set(state), sorted(set(own) ^ set(state))
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])


def _inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: batch[name] for name in ENCODER_INPUTS if name in batch}


def task_of_head(name: str, card: HeadCard) -> TaskSpec:
    """The task behind a head as far as the forward pass needs it: kind, labels and the head's name."""
    return TaskSpec(
        name=card.task,
        kind=card.kind,
        role="private",
        title=card.task,
        languages=("en",),
        sources=(),
        metrics=(),
        labels=card.labels,
        head=name,
    )


def pool(hidden_NTD: Tensor, mask_NT: Tensor, pooling: str, *, before: int = 0, after: int = 0) -> Tensor:
    """Reduce token vectors to one per row: the first token's, or the mean over real tokens.

    Args:
        hidden_NTD: token vectors.
        mask_NT: 1 for real tokens, which stand on the left.
        pooling: "first"; "mean", special tokens included; or "mean-text", without the special tokens at the ends (a row
            of nothing else gives a zero vector).
        before: special tokens in front of the text.
        after: special tokens behind it.
    """
    if pooling == "first":
        return hidden_NTD[:, 0]
    if pooling == "mean-text":
        places_T = torch.arange(mask_NT.shape[1], device=mask_NT.device)
        mask_NT = (places_T >= before) & (places_T < mask_NT.sum(1, keepdim=True) - after)
    weights_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTD.dtype)
    return (hidden_NTD * weights_NT1).sum(1) / weights_NT1.sum(1).clamp(min=1)


def pair_features(hidden_NTD: Tensor, mask_NT: Tensor, ids_NT: Tensor, *, separator: int) -> Tensor:
    """Mean of each segment's tokens, their absolute difference and product, side by side: (N,4D).

    The features by which InferSent (Conneau et al. 2017) and Sentence-BERT (Reimers and Gurevych 2019) compare two
    sentences, here of segments that have read each other. The special tokens are in neither mean; a row of one segment
    is compared with itself.

    Args:
        hidden_NTD: token vectors.
        mask_NT: 1 for real tokens, which stand on the left.
        ids_NT: the tokens.
        separator: token that ends a segment.
    """
    ends_NT = (ids_NT == separator) & mask_NT.bool()
    after_NT = ends_NT.cumsum(1)
    text_NT = mask_NT.bool() & ~ends_NT
    text_NT[:, 0] = False  # the token in front of the first segment
    first_NT, second_NT = text_NT & (after_NT == 0), text_NT & (after_NT > 0)
    second_NT = torch.where(second_NT.any(1, keepdim=True), second_NT, first_NT)
    a_ND, b_ND = (
        (hidden_NTD * part.unsqueeze(-1).to(hidden_NTD.dtype)).sum(1) / part.sum(1, keepdim=True).clamp(min=1)
        for part in (first_NT, second_NT)
    )
    return torch.cat([a_ND, b_ND, (a_ND - b_ND).abs(), a_ND * b_ND], dim=1)


def seed_for(seed: int, name: str) -> int:
    """A seed of its own for each part of a run, so that adding a part shifts no other part's random numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7], "big")


def initialised(module: nn.Module, seed: int, name: str) -> nn.Module:
    """Draw a head's weights from its own generator: matrices normal, biases zero, normalisation as it is.

    The standard deviation is 1 / sqrt(3 * inputs), that of torch's default for linear layers, which the heads of the
    paper's code start from: 0.018 at XLM-R Large's width of 1024, and enough at 128 for two tanh layers to pass on a
    signal.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, name))
    with torch.no_grad():
        for parameter_name, parameter in sorted(module.named_parameters()):
            if parameter.ndim >= 2:
                parameter.normal_(0.0, (3 * parameter.shape[-1]) ** -0.5, generator=generator)
            elif parameter_name.rpartition(".")[2] == "bias":
                parameter.zero_()
    return module


def _safe(name: str) -> str:
    """Head names may hold dots, module names may not."""
    return name.replace(".", "/")
