"""What one would write without this package: a bare encoder, plain adapters or peft around it, transformers' Trainer.

Only the small head on top is made like this package's, because none of the libraries brings it. Used by
scripts/compare_trainer.py; nothing of the training loop or the methods of `adapters_xling` is imported here.

Shapes: N rows, T tokens, D hidden size, C outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoModel, DataCollatorWithPadding, Trainer, TrainingArguments


def with_full(encoder: Any, native: Path, *, fresh: bool, settings: Mapping[str, Any]) -> Any:
    """Train the encoder itself, without its token vectors where the settings say so."""
    encoder.embeddings.word_embeddings.weight.requires_grad_(bool(settings["train_embeddings"]))
    return encoder


def with_lora(encoder: Any, native: Path, *, fresh: bool, settings: Mapping[str, Any]) -> Any:
    """Put peft around the encoder: a new LoRA of the same configuration, or the one in the folder."""
    from peft import PeftConfig, PeftModel, get_peft_model

    if fresh:
        config = PeftConfig.from_pretrained(str(native))
        config.inference_mode = False  # as an argument of `from_pretrained` it loses to the file's, and nothing trains
        return get_peft_model(encoder, config)
    return PeftModel.from_pretrained(encoder, str(native), is_trainable=True)


def with_bottleneck(encoder: Any, native: Path, *, fresh: bool, settings: Mapping[str, Any]) -> Any:
    """Put adapters into the encoder: a new one of the same configuration, or the one in the folder."""
    import adapters

    adapters.init(encoder)
    if fresh:
        name = "plain"
        encoder.add_adapter(name, config=json.loads((native / "adapter_config.json").read_text())["config"])
    else:
        name = encoder.load_adapter(str(native), use_safetensors=True)
    encoder.train_adapter(name)
    encoder.set_active_adapters(name)
    return encoder


METHODS: dict[str, Callable[..., Any]] = {"full": with_full, "lora": with_lora, "bottleneck": with_bottleneck}


def encoder_with(
    method: str, folder: Path, native: Path, *, fresh: bool, settings: Mapping[str, Any], dropout: float
) -> Any:
    """Load the bare encoder and put a method's library around it.

    Args:
        method: key of `METHODS`.
        folder: of the backbone.
        native: folder with the slot in its library's own files.
        fresh: draw the slot's weights anew instead of reading them.
        settings: the method's own.
        dropout: of the encoder, in what is frozen too: the Trainer puts the whole model in train mode.
    """
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    encoder = AutoModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True, **rates)
    return METHODS[method](encoder, native, fresh=fresh, settings=settings)


class PlainModel(nn.Module):
    """An encoder and a head: classes of a row (`pooling` "first", "mean" or "pair"), or start and end of a span (None).

    "pair" compares the two segments of a row, which end at `separator` tokens.
    """

    def __init__(
        self, encoder: Any, num_out: int, *, pooling: str | None, dropout: float, separator: int | None = None
    ) -> None:
        super().__init__()
        width = int(encoder.config.hidden_size)
        self.encoder, self.pooling, self.dropout = encoder, pooling, nn.Dropout(dropout)
        self.separator = separator
        if pooling is not None:
            self.pooler = nn.Linear(width * (4 if pooling == "pair" else 1), width)
            self.dense = nn.Linear(width, width)
        self.out = nn.Linear(width, num_out)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Give logits (N,C) or (N,T,2) and, with labels, the mean cross entropy."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden_NTD = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        if self.pooling is None:
            logits = self.out(self.dropout(hidden_NTD)).float()
            scored = logits.masked_fill(attention_mask.eq(0)[..., None], torch.finfo(torch.float32).min)
        else:
            pooled = self.pooled(hidden_NTD, input_ids, attention_mask)
            hidden_ND = torch.tanh(self.dense(self.dropout(torch.tanh(self.pooler(pooled)))))
            logits = scored = self.out(self.dropout(hidden_ND)).float()
        return (
            {"logits": logits}
            if labels is None
            else {"loss": functional.cross_entropy(scored, labels), "logits": logits}
        )

    def pooled(self, hidden_NTD: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """What the pooler reads: (N,D), or of pairs (N,4D), row by row."""
        if self.pooling == "first":
            return hidden_NTD[:, 0]
        if self.pooling == "mean":
            weights_NT1 = mask_NT[..., None].to(hidden_NTD.dtype)
            return (hidden_NTD * weights_NT1).sum(1) / weights_NT1.sum(1)
        rows = []
        for hidden_TD, ids_T in zip(hidden_NTD, ids_NT, strict=True):
            *_, before, end = (ids_T == self.separator).nonzero()[:, 0].tolist()
            first = int((ids_T == self.separator).nonzero()[0])
            a_D, b_D = hidden_TD[1:first].mean(0), hidden_TD[before + 1 : end].mean(0)
            rows.append(torch.cat([a_D, b_D, (a_D - b_D).abs(), a_D * b_D]))
        return torch.stack(rows)

    @torch.no_grad()
    def rescale_head(self, std: float) -> None:
        """Bring weights as torch draws them by default to another standard deviation; biases become 0."""
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(std * math.sqrt(3 * layer.in_features))  # torch: uniform up to 1 / sqrt(in)
                layer.bias.zero_()

    def load_head(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a head of this package, by the names they have in `heads.safetensors`."""
        state = {}
        for name, tensor in tensors.items():
            layer, _, what = name.rpartition(".")
            layer = layer.partition(".")[0] if layer.startswith("pooler.") else layer.rpartition(".")[2]
            state[f"{layer}.{what}"] = tensor
        own = {name for name in self.state_dict() if not name.startswith("encoder.")}
        if set(state) != own:
            raise ValueError(f"the head has {sorted(own)}, given were {sorted(state)}")
        self.load_state_dict(state, strict=False)


class PlainTrainer(Trainer):
    """The Trainer, with what it does not offer: exact losses, given batches, and a score in place of its evaluation.

    Attributes:
        losses: of every training step (the Trainer logs them rounded to four digits).
        num_tokens: tokens seen in training, without padding.
    """

    def __init__(
        self,
        *args: Any,
        batches: Sequence[Sequence[int]] | None = None,
        scorer: Callable[[nn.Module], float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []
        self.num_tokens = 0
        self.batches, self.scorer = batches, scorer

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep the loss that the Trainer computes."""
        found = super().compute_loss(model, inputs, *args, **kwargs)
        self.num_tokens += int(inputs["attention_mask"].sum())
        self.losses.append(float((found[0] if isinstance(found, tuple) else found).detach()))
        return found

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The given batches in their order, else the Trainer's own."""
        if self.batches is None:
            return super().get_train_dataloader()
        return DataLoader(self.train_dataset, batch_sampler=list(self.batches), collate_fn=self.data_collator)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Score the dev rows."""
        assert self.scorer is not None
        found = {f"{metric_key_prefix}_score": self.scorer(self.model)}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Encoded rows as the Trainer takes them."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def trainer(
    model: PlainModel,
    rows: Sequence[dict[str, Any]],
    tokenizer: Any,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    epsilon: float,
    clip_norm: float,
    seed: int,
    precision: str,
    warmup: float = 0.0,
    warmup_steps: int = 0,
    batches: Sequence[Sequence[int]] | None = None,
    scorer: Callable[[nn.Module], float] | None = None,
    eval_every_steps: int = 0,
    pad_to: int = 0,
    use_cpu: bool = True,
    **changes: Any,
) -> PlainTrainer:
    """Make a Trainer of these settings; everything not named here is its default.

    Args:
        model: what to train.
        rows: input ids and labels.
        tokenizer: pads the batches.
        folder: of its checkpoints.
        warmup: share of the steps (the Trainer rounds up), unless `warmup_steps` counts them.
        batches: rows of every batch; the Trainer shuffles by itself without.
        scorer: gives a model's score on dev rows; the best step is kept with it.
        pad_to: tokens that every row is padded to; 0 pads each batch to its longest row.
        use_cpu: False takes the GPU, where there is one.
        changes: further arguments of `TrainingArguments`.
    """
    best: dict[str, Any] = {}
    if scorer is not None and eval_every_steps < steps:
        every = {"eval_steps": eval_every_steps, "save_steps": eval_every_steps, "save_total_limit": 1}
        best = {"eval_strategy": "steps", "save_strategy": "steps", "metric_for_best_model": "score", **every}
        best |= {"load_best_model_at_end": True, "greater_is_better": True}
    fixed: dict[str, Any] = {"padding": "max_length", "max_length": pad_to} if pad_to else {}
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        adam_epsilon=epsilon,
        max_grad_norm=clip_norm,
        warmup_ratio=warmup,
        warmup_steps=warmup_steps,
        seed=seed,
        bf16=precision == "bf16",
        **({"save_strategy": "no"} | best),
        report_to=[],
        disable_tqdm=True,
        use_cpu=use_cpu,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_steps=max(1, min(50, math.ceil(steps / 2))),
        **changes,
    )
    return PlainTrainer(
        model=model,
        args=arguments,
        train_dataset=Rows(rows),
        eval_dataset=Rows(rows[:1]) if best else None,
        data_collator=DataCollatorWithPadding(tokenizer, **fixed),
        batches=batches,
        scorer=scorer,
    )
