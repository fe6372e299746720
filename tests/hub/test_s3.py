"""A bucket as a shared zoo: s3fs against moto's server, a process of its own that speaks S3 over loopback HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters_xling.errors import HubError, XlingError
from adapters_xling.hub import open_hub, plan_pull, pull, push
from adapters_xling.zoo import Zoo
from tests.unit.zoo_samples import a_run, an_entry, sealed

pytest.importorskip("moto", reason="needs moto[server]")
pytest.importorskip("s3fs", reason="needs s3fs")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "moto's server ended"
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("moto's server does not answer")
        yield url
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    """The usual places: what s3fs and every tool of that world read."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    import s3fs

    name = "b" + str(abs(hash(request.node.name)))[:12]
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}/zoo"


def contents(zoo: Zoo, key: str) -> dict[str, bytes]:
    folder = zoo.get(key).folder
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_push_then_pull_gives_the_same_bytes(bucket: str, tmp_path: Path) -> None:
    home, away = Zoo(tmp_path / "home", fallbacks=()), Zoo(tmp_path / "away", fallbacks=())
    parent = an_entry(home)
    child = an_entry(home, a_run("mini-ner", warm=parent.key))
    push(home, child.key, open_hub(bucket))
    assert open_hub(bucket).keys() == tuple(sorted([parent.key, child.key]))
    assert plan_pull(away, "mini-ner", open_hub(bucket)).num_bytes == sum(e.card.num_bytes for e in (parent, child))
    pull(away, "mini-ner", open_hub(bucket))
    for entry in (parent, child):
        assert contents(away, entry.key) == contents(home, entry.key)
    assert push(home, child.key, open_hub(bucket)).num_bytes == 0
    home.attest(child.key, sealed(child, "sw", "de"))
    push(home, child.key, open_hub(bucket))
    pull(away, child.key, open_hub(bucket))
    assert away.scores(child.key) == home.scores(child.key) != ()


def test_an_upload_cut_in_the_middle_shows_nothing_and_goes_on(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, away = Zoo(tmp_path / "home", fallbacks=()), Zoo(tmp_path / "away", fallbacks=())
    entry = an_entry(home)
    place = open_hub(bucket)
    real, sent = place._fs.put_file, []  # type: ignore[attr-defined]

    def put_file(source: str, target: str, **more: Any) -> Any:
        if target.endswith("heads.safetensors") and not sent[2:]:
            raise ConnectionResetError("the line broke")
        sent.append(target)
        return real(source, target, **more)

    with monkeypatch.context() as patch:
        patch.setattr(place._fs, "put_file", put_file)  # type: ignore[attr-defined]
        with pytest.raises(HubError, match="the line broke"):
            push(home, entry.key, place)
    assert len(sent) == 2 and open_hub(bucket).keys() == ()
    with pytest.raises(XlingError, match="unknown entry"):
        pull(away, entry.key, open_hub(bucket))
    push(home, entry.key, open_hub(bucket))
    pull(away, entry.key, open_hub(bucket))
    assert contents(away, entry.key) == contents(home, entry.key)


def test_what_the_store_refuses_is_said_in_words(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    home = Zoo(tmp_path / "home", fallbacks=())
    entry = an_entry(home)
    with pytest.raises(HubError, match="not there"):
        pull(home, "mini-nlu", open_hub("s3://nosuchbucket/zoo"))
    with pytest.raises(HubError, match=r"not there|NoSuchBucket|does not exist"):
        push(home, entry.key, open_hub("s3://nosuchbucket/zoo"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(HubError, match="cannot be reached"):
        pull(home, "mini-nlu", open_hub(bucket))
