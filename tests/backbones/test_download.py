"""Fetching pipelines from a hub of our own on this machine, which tells what it was asked for."""

import errno
import hashlib
import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from rich import filesize
from safetensors.numpy import save

from grasp_bench.backbones.download import download_pipeline, whole_pipeline
from grasp_bench.backbones.files import MissingFilesError, find_pipeline
from grasp_bench.errors import UserError

REPOSITORY, COMMIT = "someone/pixart", "0123456789abcdef0123456789abcdef01234567"
FAMILY = (
    "PixArtTransformer2DModel",
    ("transformer", "vae", "text_encoder", "tokenizer"),
    ("text_encoder_2", "tokenizer_2"),
)


def weights(seed: int) -> bytes:
    return save({"weight": np.arange(1000, dtype=np.float32) + seed})


SHARDS = [f"text_encoder/model-0000{number}-of-00002.safetensors" for number in (1, 2)]
NEEDED = {
    "model_index.json": json.dumps(
        {
            "_class_name": "PixArtSigmaPipeline",
            "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5Tokenizer"],
            "transformer": ["diffusers", "PixArtTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
    ).encode(),
    "scheduler/scheduler_config.json": b'{"beta_start": 0.0001}',
    "text_encoder/config.json": b'{"d_model": 4096}',
    "text_encoder/model.safetensors.index.json": json.dumps(
        {"weight_map": {f"weight.{row}": name.rpartition("/")[2] for row, name in enumerate(SHARDS)}}
    ).encode(),
    **{name: weights(number) for number, name in enumerate(SHARDS)},
    "tokenizer/spiece.model": b"pieces",
    "tokenizer/tokenizer_config.json": b'{"model_max_length": 300}',
    "transformer/config.json": b'{"sample_size": 128}',
    "transformer/diffusion_pytorch_model.safetensors": weights(2),
    "vae/config.json": b'{"scaling_factor": 0.13025}',
    "vae/diffusion_pytorch_model.fp16.safetensors": weights(3),
}
NOT_NEEDED = {
    "README.md": b"A card.",
    "pixart.safetensors": weights(4),
    "asset/picture.png": b"picture",
    "text_encoder/model.fp16-00001-of-00001.safetensors": weights(5),
    "text_encoder/pytorch_model.bin": b"a pickle",
    "text_encoder_2/model.safetensors": weights(6),
    "tokenizer/old/spiece.model": b"pieces",
    "transformer/diffusion_pytorch_model.bin": b"pickle",
    "transformer/diffusion_pytorch_model.fp16.safetensors": weights(7),
    "vae_1_0/diffusion_pytorch_model.safetensors": weights(8),
}


class Hub(ThreadingHTTPServer):
    """What of the hub's interface a download needs, for one repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.commit = NEEDED | NOT_NEEDED, COMMIT
        self.fetched: set[str] = set()
        self.requests = 0
        self.refusal: tuple[int, dict[str, str]] | None = None
        self.gated = False

    def entries(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "rfilename": name, "size": len(content), "oid": blob, "blobId": blob}
            for name, content in self.files.items()
            for blob in [hashlib.sha1(content).hexdigest()]
        ]


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.requests += 1
        path = unquote(urlsplit(self.path).path)
        if self.server.refusal:
            return self.answer(self.server.refusal[0], b"", self.server.refusal[1])
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            return self.answer(200, json.dumps(self.server.entries()).encode())
        if path.startswith(f"/api/models/{REPOSITORY}"):
            found = {"id": REPOSITORY, "sha": self.server.commit, "siblings": self.server.entries()}
            return self.answer(200, json.dumps(found).encode())
        name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")[2]
        if self.server.gated:
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if name not in self.server.files:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        content = self.server.files[name]
        if self.command == "GET":
            self.server.fetched.add(name)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.answer(200, content, {"ETag": etag, "X-Repo-Commit": self.server.commit})

    do_HEAD = do_GET  # noqa: N815 # as BaseHTTPRequestHandler calls it

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub that is asked, with an empty cache."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()


def fetch(family: tuple[str, tuple[str, ...], tuple[str, ...]] = FAMILY, source: str = REPOSITORY) -> list[str]:
    """What is said of the download."""
    said: list[str] = []
    download_pipeline(source, *family, say=said.append)
    return said


# What is fetched


def test_what_the_family_reads_is_fetched_and_nothing_else(hub, tmp_path):
    said = fetch()
    assert hub.fetched == set(NEEDED)
    saved = find_pipeline(REPOSITORY, *FAMILY)
    assert saved.folder.is_relative_to(tmp_path / "hub")
    found = {path.relative_to(saved.folder).as_posix(): path for path in saved.folder.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == NEEDED
    assert saved.variant("vae") == "fp16"
    assert saved.variant("transformer") is None
    left = [name for name in NEEDED if not name.endswith(("/config.json", "index.json"))]  # those say what is needed
    size = sum(len(NEEDED[name]) for name in left)
    assert said == [f"fetching 7 files of {REPOSITORY}, {size / 1000:.1f} kB, into {tmp_path / 'hub'}"]


@pytest.mark.parametrize("commit", [COMMIT, COMMIT[::-1]])
def test_what_is_there_is_not_asked_for_again(hub, commit):
    fetch()
    folder, hub.requests = find_pipeline(REPOSITORY, *FAMILY).folder, 0
    assert fetch() == []
    assert hub.requests == 0
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.resolve().unlink()
    path.unlink()
    hub.fetched.clear()
    hub.commit = commit  # of a later snapshot, whose other files are the same
    assert [line.partition(" of ")[0] for line in fetch()] == ["fetching 1 file"]
    assert hub.fetched == {"transformer/diffusion_pytorch_model.safetensors"}
    find_pipeline(REPOSITORY, *FAMILY)


def test_a_folder_is_never_fetched(hub, tmp_path):
    assert fetch(source=str(tmp_path)) == []
    assert hub.requests == 0


def test_nothing_is_asked_for_without_permission(hub, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a request")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(MissingFilesError, match="with --allow-download"):
        find_pipeline(REPOSITORY, *FAMILY)
    assert hub.requests == 0


# What cannot be fetched


def refused(said: str, family: tuple[str, tuple[str, ...], tuple[str, ...]] = FAMILY) -> None:
    with pytest.raises(UserError, match=said):
        fetch(family)


def test_offline_mode_refuses(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(r"--allow-download: someone/pixart is not fetched while HF_HUB_OFFLINE .* is set\. Unset it")
    assert hub.requests == 0


def test_a_gated_repository_is_explained(hub):
    hub.gated = True
    refused(rf"is gated.* Accept it on http://127\.0\.0\.1:\d+/{REPOSITORY}, log in with `hf auth login`")
    hub.gated, hub.refusal = False, (401, {"X-Error-Code": "GatedRepo"})
    refused("is gated")
    assert not hub.fetched


@pytest.mark.parametrize(
    ("status", "headers"), [(404, {"X-Error-Code": "RepoNotFound"}), (401, {"X-Error-Code": "RepoNotFound"}), (401, {})]
)
def test_a_repository_that_is_not_there_or_private_is_explained(hub, status, headers):
    hub.refusal = (status, headers)
    refused(f"^{REPOSITORY}: there is no such repository at http.*, or it is private, or your token is not valid")


def test_a_hub_that_refuses_is_explained(hub):
    hub.refusal = (403, {})
    refused(r"http://127\.0\.0\.1:\d+ refused \(.*403.*check your token")


def test_no_network_is_explained(hub, monkeypatch):
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        refused(r"could not be fetched from http.*\(.*\)\. Check the network and HF_ENDPOINT")


def test_a_pipeline_of_another_family_is_refused_before_its_weights_are_fetched(hub):
    refused("of the class PixArt.*, expected SD3Transformer2DModel", ("SD3Transformer2DModel", *FAMILY[1:]))
    assert hub.fetched <= {name for name in NEEDED if name.endswith(".json")}


def test_a_repository_without_a_pipeline_is_refused(hub):
    hub.files = {name: content for name, content in hub.files.items() if name.startswith("transformer/")}
    refused(r"the repository has no model_index\.json")
    assert not hub.fetched


def test_a_repository_of_pickles_is_refused_before_anything_large_is_fetched(hub):
    hub.files = {name: hub.files[name] for name in hub.files if not name.endswith("model.safetensors")} | {
        "transformer/diffusion_pytorch_model.bin": b"pickle"
    }
    del hub.files["transformer/diffusion_pytorch_model.fp16.safetensors"]
    refused(r"has no transformer/diffusion_pytorch_model\.safetensors\. It has transformer/.*\.bin: a pickle can run")
    assert not [name for name in hub.fetched if name.endswith((".bin", ".safetensors"))]


def test_a_disk_that_is_too_small_is_said_before_and_a_full_one_after(hub, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 5000, 5000))
        refused(r"what is missing takes 16\.4 kB, and the disk of .* has 5\.0 kB left\. Free some, or set HF_HOME")
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    refused(rf"the disk of {tmp_path / 'hub'} is full\. Free some space and try again: what was fetched is kept")


def test_a_whole_pipeline_is_fetched_on_a_machine_that_has_fetched_nothing(hub, tmp_path):
    assert not (tmp_path / "hub").exists()
    said: list[str] = []
    folder = whole_pipeline(REPOSITORY, said.append)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} >= NEEDED.keys()
    assert not [*folder.rglob("*.bin")]
    assert said[0].startswith(f"fetching {REPOSITORY}, at most ")


@pytest.mark.parametrize(
    ("size", "said"), [(999, "999 bytes"), (1000, "1.0 kB"), (24_500_000, "24.5 MB"), (14_230_000_000, "14.2 GB")]
)
def test_sizes_are_said_as_disks_and_the_hub_say_them(size, said):
    assert filesize.decimal(size) == said
