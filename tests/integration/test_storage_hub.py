"""Downloads of models with the hub's own client, from a hub on this machine that breaks off and asks for tokens."""

import hashlib
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
from published_models import write_llama, write_sheared_llama

from wmtp_jax.storage.__main__ import main

hub_utils = pytest.importorskip("huggingface_hub.utils", reason="downloading needs the extra 'datasets'")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"
PIECE = 1 << 16  # bytes that the client writes at a time


class Hub(http.server.ThreadingHTTPServer):
    """One repository as the hub serves it."""

    def __init__(self, repository: str, directory: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository, self.directory = repository, directory
        self.gated = False  # files need the token
        self.lies = False  # about the digests of the files
        self.breaks_off = ""  # file whose transfers stop in the middle
        self.received = []  # (method, file, first byte asked for)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        api, resolve = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/{COMMIT}/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            files = sorted(file for file in hub.directory.rglob("*") if file.is_file())
            names = [{"rfilename": file.relative_to(hub.directory).as_posix()} for file in files]
            info = json.dumps({"id": hub.repository, "sha": COMMIT, "siblings": names}).encode()
            self.answer(200, {"Content-Type": "application/json"}, info)
        elif path.startswith(api):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif not path.startswith(resolve):
            self.answer(404, {"X-Error-Code": "RepoNotFound"})
        elif hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"X-Error-Code": "GatedRepo"})
        else:
            self.send_file(path.removeprefix(resolve))

    def send_file(self, name):
        data = (self.server.directory / name).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.server.received.append((self.command, name, start))
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{"0" * 64 if self.server.lies else etag.hexdigest()}"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = len(data) // 2 if name == self.server.breaks_off else len(data)
        self.answer(206 if start else 200, headers, data[start:], max(end - start, 0))

    def answer(self, status, headers, body=b"", sent=None):
        """The first `sent` bytes of the body; then the connection breaks."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])

    def log_message(self, *_):
        """Nothing on stderr."""


@pytest.fixture
def start_hub(tmp_path, monkeypatch):
    """Starts a hub, to which the hub's client is led, with a cache of its own and no token; stops it at the end."""
    running = []

    def start(repository, directory) -> Hub:
        hub = Hub(repository, directory)
        threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True).start()
        running.append(hub)
        url = f"http://127.0.0.1:{hub.server_port}"
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        constants = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "DOWNLOAD_CHUNK_SIZE": PIECE}
        constants |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN_PATH": str(tmp_path / "token")}
        for name, value in constants.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own attempts
        return hub

    hub_utils.disable_progress_bars()
    yield start
    hub_utils.enable_progress_bars()
    for hub in running:
        hub.shutdown()
        hub.server_close()


@pytest.fixture
def command(tmp_path, capsys):
    """Runs a command line; returns its exit code and what it said."""

    def run(name, *options):
        code = main(["models", name, "--download", *options, "--storage", str(tmp_path / "storage")])
        printed = capsys.readouterr()
        assert TOKEN not in printed.out + printed.err
        return code, [line for line in printed.err.splitlines() if line.startswith("error: ")]

    return run


@pytest.fixture
def tokenizer(root) -> Path:
    return root / "storage/models_v2/micro-mtp/tokenizer.model"


def test_a_users_llama_arrives_whole_although_the_connection_breaks(start_hub, command, tokenizer, tmp_path):
    write_llama(tmp_path / "there", 1024, ffn_dim=1024)
    shutil.copyfile(tokenizer, tmp_path / "there/tokenizer.model")
    (tmp_path / "there/pytorch_model.bin").write_bytes(b"the same weights again, not to be fetched")
    hub = start_hub("someone/llama", tmp_path / "there")
    hub.breaks_off = shard = "model-00002-of-00002.safetensors"

    code, (error,) = command("mine", "someone/llama")
    assert (code, "the same command continues where it was" in error) == (2, True)
    assert not (tmp_path / "storage/models_v2/mine").exists()

    hub.breaks_off = ""
    assert command("mine", "someone/llama") == (0, [])
    starts = [start for method, name, start in hub.received if (method, name) == ("GET", shard)]
    assert starts[0] == 0
    assert starts[-1] >= PIECE
    assert [name for method, name, _ in hub.received if method == "GET"].count("config.json") == 1
    assert not (tmp_path / "storage/models_v2/.downloads/mine").exists()
    assert not any(name == "pytorch_model.bin" for _, name, _ in hub.received)
    metadata = json.loads((tmp_path / "storage/models_v2/mine/metadata.json").read_text())
    assert metadata["revision"] == COMMIT
    assert metadata["source"] == "https://huggingface.co/someone/llama"


def test_a_gated_model_needs_a_token(start_hub, command, tokenizer, tmp_path, monkeypatch):
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 4}
    write_sheared_llama(tmp_path / "there", config, narrower=1, vocab_size=1024)
    shutil.copyfile(tokenizer, tmp_path / "there/tokenizer.model")
    start_hub("princeton-nlp/Sheared-LLaMA-2.7B", tmp_path / "there").gated = True

    code, (error,) = command("ref-sheared-llama-2.7b")
    assert code == 2
    assert "accept its licence at https://huggingface.co/princeton-nlp/Sheared-LLaMA-2.7B" in error
    assert "HF_TOKEN" in error
    assert not (tmp_path / "storage/models_v2").exists()

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert command("ref-sheared-llama-2.7b", "--revision", COMMIT) == (0, [])
    assert (tmp_path / "storage/models_v2/ref-sheared-llama-2.7b/SHA256SUMS").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["someone/other"], "there is no such repository"),
        (["someone/llama", "--revision", "v9"], "has no revision 'v9'"),
        (["someone/llama"], "does not have the hub's digest"),
    ],
)
def test_names_revisions_and_bytes_that_are_not_there(start_hub, command, tmp_path, options, message):
    write_llama(tmp_path / "there", 1024)
    start_hub("someone/llama", tmp_path / "there").lies = True
    code, (error,) = command("mine", *options)
    assert (code, message in error) == (2, True)
    assert not (tmp_path / "storage/models_v2/mine").exists()
