"""Files of others' models: only the published content is used, and what is missing is one sentence."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cacl.errors import UserError
from cacl.model.model_files import PUBLISHED, ModelFile, model_file
from tests.shards.servers import Server


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.delenv("CACL_MODELS", raising=False)
    monkeypatch.setenv("CACL_CACHE", str(tmp_path / "cache"))
    server = Server()
    yield server
    server.shutdown()


def published(server: Server, sha256: str | None = None) -> dict[str, ModelFile]:
    name, right, _ = server.put("tiny.pt", 5000)
    return {"tiny": ModelFile(name, f"{server.url}/{name}", sha256 or right, "MIT")}


def kept(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache" / "models").glob("*") if file.suffix != ".lock")


def test_a_file_is_fetched_once(server, tmp_path):
    models = published(server)
    for _ in range(2):
        assert model_file("tiny", models).read_bytes() == server.files["tiny.pt"]
    assert len(server.requests) == 1 and kept(tmp_path) == ["tiny.pt"]


def test_what_is_not_the_published_file_is_never_kept(server, tmp_path):
    with pytest.raises(UserError, match=r"tiny\.pt cannot be fetched from .*another sha256.*CACL_MODELS$"):
        model_file("tiny", published(server, "0" * 64))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("trouble", ["absent", "dropped", "nobody"])
def test_a_file_that_cannot_be_fetched_is_one_sentence(server, tmp_path, trouble):
    models = published(server)
    if trouble == "absent":
        server.files.clear()
    elif trouble == "dropped":
        server.drop_every = 1
    else:
        server.shutdown()
        server.server_close()
    with pytest.raises(UserError) as raised:
        model_file("tiny", models)
    told = str(raised.value)
    assert "tiny.pt" in told and models["tiny"].address in told and told.endswith("CACL_MODELS")
    assert kept(tmp_path) == []


def test_a_folder_of_the_users_comes_first_and_its_files_are_checked(server, tmp_path, monkeypatch):
    models = published(server)
    monkeypatch.setenv("CACL_MODELS", str(tmp_path))
    file = tmp_path / "tiny.pt"
    file.write_bytes(server.files["tiny.pt"])
    assert model_file("tiny", models) == file and not server.requests
    file.write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"{file}: is not the file of {models['tiny'].address}; remove it"):
        model_file("tiny", models)
    file.unlink()
    assert model_file("tiny", models).parent.name == "models" and server.requests


def test_a_model_that_nobody_publishes_is_one_sentence(server):
    with pytest.raises(UserError, match=r"^mn99: no address .* \(known are mn04, yamnet, yolox-nano\)"):
        model_file("mn99")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_committed_sums_are_those_of_the_files(name, real_dir, monkeypatch):
    monkeypatch.setenv("CACL_MODELS", str(real_dir / "models"))
    digest = hashlib.sha256(model_file(name).read_bytes()).hexdigest()
    assert digest in (PUBLISHED[name].sha256, *PUBLISHED[name].same)
