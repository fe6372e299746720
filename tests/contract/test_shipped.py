"""What ships is what its cards say: the nano backbone, its figures, and the nano entries."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from adapters_xling import paths
from adapters_xling.api import predict
from adapters_xling.languages import LANGUAGES
from adapters_xling.model import backbone_id, load_backbone, open_entry
from adapters_xling.tasks import mini
from adapters_xling.zoo import Zoo

ROOT = Path(__file__).resolve().parents[2]
NANO = paths.shipped_zoo_dir() / "xlmr-nano"
SHIPPED = Zoo(paths.shipped_zoo_dir(), fallbacks=())
CARD = json.loads((NANO / "training.json").read_text(encoding="utf-8"))


def test_the_nano_backbone_is_small_and_holds_no_pickle() -> None:
    assert sum(path.stat().st_size for path in NANO.iterdir()) <= 12 * 2**20
    assert {path.suffix for path in NANO.iterdir()} <= {".safetensors", ".json", ".model", ".md"}


def test_its_card_gives_budget_accuracy_and_retrieval() -> None:
    text = json.dumps(CARD)
    for word in ("minutes", "tokens", "masked_accuracy", "unk", "pieces_per_word", "easy", "hard"):
        assert word in text, word
    assert "/tmp" not in text
    assert "/home" not in text
    training = CARD["training"]
    assert training["device"] == "cuda" or training["minutes"] * training["threads"] >= 240


def test_its_readme_is_made_from_its_figures() -> None:
    """Written again with `python scripts/nano/card.py zoo/xlmr-nano`."""
    spec = importlib.util.spec_from_file_location("card", ROOT / "scripts" / "nano" / "card.py")
    assert spec is not None
    assert spec.loader is not None
    card = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(card)
    assert (NANO / "README.md").read_text(encoding="utf-8") == card.render(CARD)


def test_its_tokenizer_gives_mini_words_one_piece_and_knows_them_all() -> None:
    tokenizer = load_backbone("xlmr-nano").tokenizer
    for language in mini.LANGUAGES:
        words = mini.vocabulary(language)
        ids = tokenizer(words, add_special_tokens=False)["input_ids"]
        assert all(tokenizer.unk_token_id not in row for row in ids), language
        assert sum(map(len, ids)) / len(words) < 1.1, language


@pytest.mark.realdata
def test_its_tokenizer_reads_the_real_kit_in_each_of_its_languages(real_data: object) -> None:
    """Unknown tokens under 2 % of all tokens, with the fast tokenizer that is shipped, on PAN-X dev words."""
    from pathlib import Path

    tokenizer = load_backbone("xlmr-nano").tokenizer
    files = sorted((Path(str(real_data)) / "xtreme" / "panx").glob("dev-*.tsv"))
    assert len(files) > 30
    for file in files:
        language = file.stem.removeprefix("dev-")
        assert language in LANGUAGES
        words = [line.split("\t")[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        ids = [i for row in tokenizer(words, add_special_tokens=False)["input_ids"] for i in row]
        assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.02, language


def test_there_are_shipped_entries() -> None:
    assert len(SHIPPED.keys()) >= 2


@pytest.mark.parametrize("key", SHIPPED.keys())
def test_a_shipped_entry_is_whole_and_answers_its_probe(key: str) -> None:
    assert SHIPPED.verify(key) == []
    card = SHIPPED.get(key).card
    assert card.run.backbone == backbone_id("xlmr-nano")
    assert card.training is not None
    assert card.training.converged
    assert card.num_bytes < 2**20
    open_entry(key, zoo=SHIPPED, device="cpu")


def test_a_shipped_adapter_finds_a_person_in_a_swahili_sentence() -> None:
    """A row of the mini test set: English training only, Swahili at test time."""
    key = next(name for name in list(SHIPPED.keys()) if name.startswith("mini-ner-"))
    rows = [row for row in mini.rows("mini-ner", "test", "sw") if "B-PER" in row["tags"]][:50]
    predictions = predict(key, [[" ".join(row["words"])] for row in rows])
    pairs = [pair for p, row in zip(predictions, rows, strict=True) for pair in zip(row["tags"], p.value, strict=True)]
    people = [found for gold, found in pairs if gold == "B-PER"]
    assert people.count("B-PER") / len(people) > 0.7
