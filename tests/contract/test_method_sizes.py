"""What a method says of its size, without loading anything, is what it puts into a live encoder."""

from __future__ import annotations

import pytest
from worlds import CASES, HIDDEN, LAYERS, OWN, SLOTTED, method_of, new_encoder

from adapters_xling.backbones import FAMILIES, Shape
from adapters_xling.spec import Slot

FAMILY = FAMILIES["xlm-roberta"]


def shape(encoder: object) -> Shape:
    config = encoder.config  # type: ignore[attr-defined]
    return Shape(
        layers=LAYERS,
        hidden=HIDDEN,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        types=config.type_vocab_size,
    )


def test_a_shape_counts_the_encoders_parameters() -> None:
    encoder = new_encoder()
    assert shape(encoder).num_parameters == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("case", list(CASES))
def test_num_added_and_num_saved_are_what_the_encoder_gets(case: str) -> None:
    encoder = new_encoder()
    size, before = shape(encoder), sum(p.numel() for p in encoder.parameters())
    method = method_of(case)
    method.attach(encoder, OWN, None, Slot())
    added = sum(p.numel() for p in encoder.parameters()) - before
    said = method.num_added(size, FAMILY)
    assert said == pytest.approx(added, rel=0.15 if case == "houlsby" else 0)  # learned scalings are left out
    assert method.num_saved(size, FAMILY) == (said if case in SLOTTED else before if "full" in case else 0)
