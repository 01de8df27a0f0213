"""Downloads of models with the hub's own client, from a hub on this machine that breaks off and asks for tokens."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from published_models import write_llama, write_sheared_llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_test"


class Hub(http.server.ThreadingHTTPServer):
    """One repository as the hub serves it.

    Attributes:
        repository: "owner/name".
        directory: that holds its files.
        gated: whether files need the token.
        breaks_off: file whose transfers stop in the middle.
        lies: about the digests of the files.
        received: (method, file, first byte asked for).
    """

    def __init__(self, repository: str, directory: Path, gated: bool = False, breaks_off: str = "", lies: bool = False):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository, self.directory, self.gated, self.lies = repository, directory, gated, lies
        self.breaks_off = breaks_off
        self.received = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        api = f"/api/models/{self.server.repository}"
        if path.startswith(api):
            revision = path.removeprefix(api).removeprefix("/revision/") or "main"
            files = [file.relative_to(self.server.directory).as_posix() for file in self._files()]
            if revision in ("main", COMMIT):
                self._json({"id": self.server.repository, "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]})
            else:
                self._refuse(404, "RevisionNotFound")
            return
        self._file()

    def _files(self):
        return sorted(file for file in self.server.directory.rglob("*") if file.is_file())

    def _json(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self):
        prefix = f"/{self.server.repository}/resolve/{COMMIT}/"
        if not self.path.startswith(prefix):
            self._refuse(404, "RepoNotFound")
            return
        name = self.path.removeprefix(prefix).partition("?")[0]
        if self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "GatedRepo")
            return
        data = (self.server.directory / name).read_bytes()
        asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        start = int(asked or 0)
        self.server.received.append((self.command, name, start))
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        large = name.endswith(".safetensors")
        etag = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
        self.send_header("ETag", f'"{etag.hexdigest() if not self.server.lies else "0" * 64}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if name == self.server.breaks_off and start < len(data) // 2:
            self.wfile.write(data[start : len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data[start:])

    def log_message(self, *_):
        """Nothing on stderr."""


@pytest.fixture
def hub(tmp_path):
    """Starts a hub; stops it at the end."""
    running = []

    def start(repository, directory, **behaviour) -> Hub:
        server = Hub(repository, directory, **behaviour)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


# One process for several command lines: starting one takes longer than what is tested.
SCRIPT = """
import json, sys
from wmtp_jax.storage.__main__ import main
codes = [main(line) for line in json.loads(sys.argv[1])]
sys.exit(codes[-1])
"""


@pytest.fixture
def command(tmp_path, root):
    """Runs command lines against a hub, with a cache and a storage of their own; ends with the last one's exit code."""

    def run(hub: Hub, *lines: list[str], token: str = "") -> subprocess.CompletedProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "60", "HF_HUB_ETAG_TIMEOUT": "60", "JAX_PLATFORMS": "cpu"}
        environment |= {"HF_TOKEN": token} if token else {}
        whole = [["models", *line, "--storage", str(tmp_path / "storage")] for line in lines]
        process = [sys.executable, "-c", SCRIPT, json.dumps(whole)]
        return subprocess.run(process, cwd=root, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def tokenizer(root) -> Path:
    return root / "storage/models_v2/micro-mtp/tokenizer.model"


def test_a_users_llama_arrives_whole_although_the_connection_breaks(hub, command, tokenizer, tmp_path):
    write_llama(tmp_path / "there", 1024, ffn_dim=60_000)  # The hub's client writes in pieces of 10 MiB.
    shutil.copyfile(tokenizer, tmp_path / "there/tokenizer.model")
    (tmp_path / "there/pytorch_model.bin").write_bytes(b"the same weights again, not to be fetched")
    shard = "model-00002-of-00002.safetensors"
    server = hub("someone/llama", tmp_path / "there", breaks_off=shard)

    broken = command(server, ["mine", "--download", "someone/llama"])
    assert broken.returncode == 2, broken.stderr
    assert "the same command continues where it was" in broken.stderr
    assert not (tmp_path / "storage/models_v2/mine").exists()

    server.breaks_off = ""
    whole = command(server, ["mine", "--download", "someone/llama"])
    assert whole.returncode == 0, whole.stderr
    starts = [start for method, name, start in server.received if (method, name) == ("GET", shard)]
    assert starts[0] == 0
    assert starts[-1] >= 10 * 2**20
    assert [name for method, name, _ in server.received if method == "GET"].count("config.json") == 1
    assert not (tmp_path / "storage/models_v2/.downloads/mine").exists()
    assert not any(name == "pytorch_model.bin" for _, name, _ in server.received)
    metadata = json.loads((tmp_path / "storage/models_v2/mine/metadata.json").read_text())
    assert metadata["revision"] == COMMIT
    assert metadata["source"] == "https://huggingface.co/someone/llama"


def test_a_gated_model_needs_a_token(hub, command, tokenizer, tmp_path):
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    write_sheared_llama(tmp_path / "there", config | {"num_attention_heads": 4}, narrower=1, vocab_size=1024)
    shutil.copyfile(tokenizer, tmp_path / "there/tokenizer.model")
    server = hub("princeton-nlp/Sheared-LLaMA-2.7B", tmp_path / "there", gated=True)

    refused = command(server, ["ref-sheared-llama-2.7b", "--download"])
    assert refused.returncode == 2
    assert refused.stderr.strip().count("\n") == 0
    assert "accept its licence at https://huggingface.co/princeton-nlp/Sheared-LLaMA-2.7B" in refused.stderr
    assert "HF_TOKEN" in refused.stderr
    assert not (tmp_path / "storage/models_v2").exists()

    accepted = command(server, ["ref-sheared-llama-2.7b", "--download", "--revision", COMMIT], token=TOKEN)
    assert accepted.returncode == 0, accepted.stderr
    assert TOKEN not in accepted.stdout + accepted.stderr
    assert (tmp_path / "storage/models_v2/ref-sheared-llama-2.7b/SHA256SUMS").is_file()


def test_names_revisions_and_bytes_that_are_not_there(hub, command, tmp_path):
    write_llama(tmp_path / "there", 1024)
    server = hub("someone/llama", tmp_path / "there", lies=True)
    refused = command(
        server,
        ["mine", "--download", "someone/other"],
        ["mine", "--download", "someone/llama", "--revision", "v9"],
        ["mine", "--download", "someone/llama"],
    )
    assert refused.returncode == 2
    messages = ["there is no such repository", "has no revision 'v9'", "does not have the hub's digest"]
    errors = refused.stderr.strip().splitlines()
    assert len(errors) == len(messages)
    for error, message in zip(errors, messages, strict=True):
        assert error.startswith("error: ")
        assert message in error
