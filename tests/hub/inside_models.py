"""`from_pretrained` against the loopback hub, through our backbone loader. Run by `test_hub.py`."""

from __future__ import annotations

from tests.hub.sets import ABSENT, HUB  # isort: skip - first: it sets HF_ENDPOINT

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters_xling.backbones import BACKBONES, Backbone
from adapters_xling.errors import ZooError
from adapters_xling.model import backbone as backbone_module
from adapters_xling.model import backbone_id, load_backbone
from tests.unit.tiny import tiny_encoder, tiny_tokenizer

real_sleep = time.sleep


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny XLM-R as it lies in a repository."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_encoder().save_pretrained(folder, safe_serialization=True)
    tiny_tokenizer().save_pretrained(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def other(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same with other weights."""
    folder = tmp_path_factory.mktemp("other")
    tiny_encoder(seed=1).save_pretrained(folder, safe_serialization=True)
    return {**files, "model.safetensors": (folder / "model.safetensors").read_bytes()}


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.02)))
    monkeypatch.setattr(backbone_module, "_seen", {})
    HUB.requests.clear()
    yield
    HUB.faults.clear()


def row(monkeypatch: pytest.MonkeyPatch, name: str, revision: str | None = None) -> str:
    """A backbone whose files are in the repository `o/<name>`."""
    made = Backbone(name=name, repo=f"o/{name}", family="xlm-roberta", retrieval_layer=1, revision=revision)
    monkeypatch.setitem(BACKBONES, name, made)
    return name


def repo(name: str) -> Any:
    return HUB.repo(f"o/{name}", "model")


def same(encoder: Any, weights: Any) -> bool:
    mine = weights.state_dict()
    return all(torch.equal(tensor, mine[key]) for key, tensor in encoder.state_dict().items())


def test_a_pinned_revision_is_loaded_whatever_main_says_and_then_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], other: dict[str, bytes]
) -> None:
    first, second = repo("tiny").commit(files), repo("tiny").commit(other)
    name = row(monkeypatch, "tiny", first)
    assert backbone_id(name).digest is None
    loaded = load_backbone(name)
    assert loaded.id.revision == first and loaded.id.repo == "o/tiny" and loaded.id.digest
    assert same(loaded.encoder, tiny_encoder())
    assert loaded.tokenizer("the cat")["input_ids"] == tiny_tokenizer()("the cat")["input_ids"]
    HUB.requests.clear()
    assert load_backbone(loaded.id).fingerprint == loaded.fingerprint
    assert backbone_id(name, download=True) == loaded.id
    assert HUB.requests == []
    row(monkeypatch, "tiny")  # unpinned: main
    moved = load_backbone("tiny")
    assert moved.id.revision == second and same(moved.encoder, tiny_encoder(seed=1))
    HUB.requests.clear()
    assert backbone_id("tiny") == moved.id and HUB.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_backbone("tiny").id == moved.id


def test_a_wrong_revision_is_named_and_no_other_is_loaded(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    repo("wrong").commit(files)
    with pytest.raises(ZooError, match=f"o/wrong has no revision '{ABSENT}'.*xlmr-nano needs no network"):
        load_backbone(row(monkeypatch, "wrong", ABSENT))


def test_pickled_weights_are_refused_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    buffer = io.BytesIO()
    torch.save(tiny_encoder().state_dict(), buffer)
    plain = {name: data for name, data in files.items() if name != "model.safetensors"}
    repo("pickled").commit({**plain, "pytorch_model.bin": buffer.getvalue()})
    with pytest.raises(ZooError, match=r"no model\.safetensors, only pytorch_model\.bin: pickled weights are never"):
        load_backbone(row(monkeypatch, "pickled"))
    assert not [line for line in HUB.requests if "/resolve/" in line]
    repo("split").commit({**plain, "model-00001-of-00002.safetensors": b"x"})
    with pytest.raises(ZooError, match=r"only model-00001-of-00002\.safetensors: join them"):
        load_backbone(row(monkeypatch, "split"))


def test_missing_and_vanished_files_are_named(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    repo("lacking").commit({name: data for name, data in files.items() if name != "tokenizer.json"})
    with pytest.raises(ZooError, match=r"o/lacking has no tokenizer\.json"):
        load_backbone(row(monkeypatch, "lacking"))
    repo("vanished").commit(files)
    HUB.fault(r"o/vanished/resolve/.*/tokenizer\.json", status=404)
    with pytest.raises(ZooError, match=r"o/vanished@.* has no file tokenizer\.json"):
        load_backbone(row(monkeypatch, "vanished"))
    with pytest.raises(ZooError, match="knows no repository 'o/nobody'"):
        load_backbone(row(monkeypatch, "nobody"))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_named_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], file: str
) -> None:
    name = "cut-" + file.split(".")[0]
    commit = repo(name).commit(files)
    HUB.fault(file, keep=100, honest=True)
    with pytest.raises(ZooError, match=rf"{file} of o/{name}@.* arrived damaged: 100 bytes"):
        load_backbone(row(monkeypatch, name, commit))
    assert backbone_id(name).digest is None
    HUB.faults.clear()
    assert load_backbone(name).id.revision == commit


def test_passing_faults_are_waited_out_and_a_private_repository_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    repo("flaky").commit(files)
    HUB.fault("/api/models/o/flaky", status=503, times=2)
    HUB.fault(r"o/flaky/resolve/.*config\.json", status=500, times=2)
    HUB.fault(r"^/large/model\.safetensors", keep=2000, times=1)
    assert same(load_backbone(row(monkeypatch, "flaky")).encoder, tiny_encoder())
    repo("private").commit(files)
    HUB.fault("/api/models/o/private", status=401)
    with pytest.raises(ZooError, match=r"refuses o/private \(401\).*HF_TOKEN"):
        load_backbone(row(monkeypatch, "private"))


def test_what_was_trained_on_a_commit_opens_only_with_its_bytes(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], other: dict[str, bytes], tmp_path: Path
) -> None:
    commit = repo("moved").commit(files)
    trained_on = load_backbone(row(monkeypatch, "moved", commit)).id
    repo("moved").commits[commit] = dict(other)  # a hub that rewrote history
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(backbone_module, "_seen", {})  # another machine: the folder it came from is not there
    with pytest.raises(ZooError, match=f"with sha256:{(trained_on.digest or '')[:12]} is wanted"):
        load_backbone(trained_on)
