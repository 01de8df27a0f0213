"""Judges a model by its programs: python -m wmtp_jax.evaluate --model storage/models_v2/micro-mtp --benchmark microcode

Samples go to OUTPUT/samples.jsonl, verdicts to OUTPUT/verdicts.jsonl, the table to OUTPUT/result.json. The same command
continues where it was killed. `--generate_only` stops after the samples; `--samples FILE` judges those of elsewhere.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import converters
from wmtp_jax.data import Tokenizer, load_tokenizer
from wmtp_jax.decoding import part_layers
from wmtp_jax.errors import UserError
from wmtp_jax.evaluation.answers import Answer, Decoding, answer_problems, draft_measures, require_room
from wmtp_jax.evaluation.benchmarks import BENCHMARKS, load_problems
from wmtp_jax.evaluation.errors import EvaluationError
from wmtp_jax.evaluation.heads import score_solutions
from wmtp_jax.evaluation.meter import Meter
from wmtp_jax.evaluation.problems import Problem
from wmtp_jax.evaluation.rows import RowFile, read_rows
from wmtp_jax.evaluation.summary import summarize, table
from wmtp_jax.model import ModelConfig, MTPTransformer
from wmtp_jax.sandbox import SANDBOXES, Verdict, check_programs, require_sandbox
from wmtp_jax.training.run_directory import write_text_atomically

_DAY_SECONDS = 86400
# An interpreter takes about 20 MB.
_LEAST = {"n_samples": 1, "batch_size": 1, "workers": 1, "limit": 1, "memory_mb": 64}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        run(arguments)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> dict:
    """Samples, verdicts, scores of the heads, table."""
    _validate(arguments)
    problems = load_problems(arguments.benchmark, arguments.data, template=arguments.template, shots=arguments.shots)[
        : arguments.limit
    ]
    _permit(arguments)
    if not arguments.generate_only:
        require_sandbox(arguments.sandbox)
    output = arguments.output or _output(arguments)
    result = {"benchmark": arguments.benchmark, "problems": [{"task_id": problem.task_id} for problem in problems]}
    if arguments.model:
        config, params, tokenizer = _load_model(arguments.model, arguments.dtype)
        require_room(problems, tokenizer, config)
        scores, settings, samples = _examine(arguments, output, problems, config, params, tokenizer)
        result |= scores
    else:
        settings, samples = _read_samples(arguments, problems)
    ks = _ks_of(arguments, settings["n_samples"])
    result |= {"settings": settings} | draft_measures([Answer.from_row(row) for row in samples])
    if not arguments.generate_only:
        execution = {name: getattr(arguments, name) for name in ("sandbox", "timeout_s", "memory_mb")}
        verdicts = _judge(arguments, output, problems, {"samples": settings, **execution}, samples)
        result |= {"execution": execution} | summarize(verdicts, ks)
    output.mkdir(parents=True, exist_ok=True)
    write_text_atomically(output / "result.json", json.dumps(result, indent=2) + "\n")
    print(f"{table(result)}\n\n{output}")
    return result


def _examine(
    arguments, output: Path, problems: list[Problem], config: ModelConfig, params, tokenizer: Tokenizer
) -> tuple[dict, dict, list[dict]]:
    """Scores of the heads, settings and samples; uses params up.

    Generated is what is not there yet, in portions whose limits do not depend on what is.
    """
    decoding = Decoding(
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        speculate=not arguments.no_speculation,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
    )
    settings = {
        "benchmark": arguments.benchmark,
        "problems": _digest(problems),
        "model": arguments.model.resolve().name,
        "model_digest": _model_digest(config, params),
        "n_samples": arguments.n_samples,
        **dataclasses.asdict(decoding),
    }
    tasks = [(problem, sample) for problem in problems for sample in range(arguments.n_samples)]
    with RowFile(output / "samples.jsonl", settings) as file:
        scores = score_solutions(MTPTransformer(config), params, tokenizer, problems)
        n_heads = config.n_future_tokens if decoding.speculate else 1
        parts = part_layers(params, n_heads=n_heads, dtype=arguments.dtype, give_up=True)
        meter = Meter("samples", len(tasks))
        for start in range(0, len(tasks), decoding.batch_size):
            portion = tasks[start : start + decoding.batch_size]
            if any((problem.task_id, sample) not in file.rows for problem, sample in portion):
                asked = [problem for problem, _ in portion]
                indices = range(start, start + len(portion))
                answers = answer_problems(parts, config, tokenizer, asked, indices, decoding)
                for (problem, sample), answer in zip(portion, answers, strict=True):
                    if (problem.task_id, sample) not in file.rows:
                        file.append({"task_id": problem.task_id, "sample": sample, **dataclasses.asdict(answer)})
            meter.show(start + len(portion))
        return scores, settings, [file.rows[problem.task_id, sample] for problem, sample in tasks]


def _read_samples(arguments, problems: list[Problem]) -> tuple[dict, list[dict]]:
    """Samples made elsewhere, if they answer these problems."""
    settings, samples = read_rows(arguments.samples)
    missing = {"benchmark", "problems", "model", "n_samples", "temperature"} - settings.keys()
    if missing:
        raise EvaluationError(
            f"{arguments.samples}:1: the settings lack {min(missing)!r}; expected the first line of samples that an "
            "evaluation wrote."
        )
    if settings.get("benchmark") != arguments.benchmark:
        raise EvaluationError(
            f"{arguments.samples} holds samples of {settings.get('benchmark')!r}, not of {arguments.benchmark!r}; give "
            "the benchmark they were made for."
        )
    if settings.get("problems") != _digest(problems):
        raise EvaluationError(
            f"{arguments.samples} answers other problems than these; give the same --data, --template, --shots and "
            "--limit that it was made with."
        )
    expected = {(problem.task_id, sample) for problem in problems for sample in range(settings["n_samples"])}
    missing = len(expected - {(row.get("task_id"), row.get("sample")) for row in samples})
    if missing:
        raise EvaluationError(
            f"{arguments.samples} lacks {missing} of {len(expected)} samples; let their generation end first."
        )
    return settings, samples


def _judge(arguments, output: Path, problems: list[Problem], settings: dict, samples: list[dict]) -> list[dict]:
    """Runs the programs that have no verdict yet."""
    by_name = {problem.task_id: problem for problem in problems}
    with RowFile(output / "verdicts.jsonl", settings) as file:
        left = [row for row in samples if (row["task_id"], row["sample"]) not in file.rows]
        meter = Meter("programs", len(samples))

        def note(index: int, verdict: Verdict) -> None:
            row = left[index]
            found = {"passed": verdict.passed, "reason": verdict.reason, "detail": verdict.detail}
            file.append({"task_id": row["task_id"], "sample": row["sample"], **found})
            meter.show(len(file.rows))

        check_programs(
            [by_name[row["task_id"]].program(row["text"]) for row in left],
            timeout_s=arguments.timeout_s,
            memory_bytes=arguments.memory_mb << 20,
            workers=arguments.workers,
            sandbox=arguments.sandbox,
            on_verdict=note,
        )
        return [file.rows[row["task_id"], row["sample"]] for row in samples]


def _load_model(directory: Path, dtype: str) -> tuple[ModelConfig, dict, Tokenizer]:
    """A model directory, or the export of a run."""
    directory = directory / "export" if (directory / "export").is_dir() else directory
    config, params = converters.load(directory, dtype=dtype)
    return config, params, load_tokenizer(directory, vocab_size=config.vocab_size)


def _output(arguments) -> Path:
    """Beside the samples that are there, else a directory named after model and benchmark."""
    if arguments.samples:
        return arguments.samples.parent
    return Path("evaluations", f"{arguments.model.resolve().name}-{Path(arguments.benchmark).name}")


def _digest(problems: list[Problem]) -> str:
    """Of all that makes a sample or its verdict what it is."""
    fields = [dataclasses.astuple(dataclasses.replace(problem, solution="")) for problem in problems]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _model_digest(config: ModelConfig, params: dict) -> str:
    """Of architecture and weights, as samples of one model must not go on with another's."""
    digest = hashlib.sha256(repr(config).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.ascontiguousarray(leaf).view(np.uint8))
    return digest.hexdigest()


def _validate(arguments: argparse.Namespace) -> None:
    if (arguments.model is None) == (arguments.samples is None):
        raise EvaluationError("give either --model, to write samples, or --samples, to judge some that are there.")
    if arguments.generate_only and arguments.samples:
        raise EvaluationError("--generate_only writes samples, so it needs --model and not --samples.")
    if arguments.model and arguments.n_samples > 1 and arguments.temperature == 0:
        raise EvaluationError("with --temperature 0 all samples of a problem are the same; set one, or --n_samples 1.")
    for name, least in _LEAST.items():
        if getattr(arguments, name) is not None and getattr(arguments, name) < least:
            raise EvaluationError(f"--{name} is {getattr(arguments, name)}; expected at least {least}.")
    if not 0 < arguments.timeout_s <= _DAY_SECONDS:
        raise EvaluationError(f"--timeout_s is {arguments.timeout_s}; expected seconds above 0, a day at most.")
    if arguments.model:
        _ks_of(arguments, arguments.n_samples)


def _ks_of(arguments: argparse.Namespace, n_samples: int) -> list[int]:
    """The k of pass@k: those that were asked for, else those of 1, 5 and 10 for which there are samples."""
    if arguments.k and max(arguments.k) > n_samples:
        raise EvaluationError(
            f"pass@{max(arguments.k)} needs as many samples per problem, not {n_samples}; set --n_samples, or a "
            "smaller --k."
        )
    return arguments.k or [k for k in (1, 5, 10) if k <= n_samples]


def _permit(arguments: argparse.Namespace) -> None:
    """Embedded tasks run without being asked: what a model writes for them is judged in the sandbox like any other."""
    if not (arguments.generate_only or arguments.allow_code_execution or arguments.benchmark == "microcode"):
        raise EvaluationError(
            f"judging {arguments.benchmark} runs programs that a model wrote on this machine, in a sandbox: agree "
            "with --allow_code_execution, or write samples alone with --generate_only."
        )


def _ks(text: str) -> list[int]:
    try:
        ks = sorted({int(k) for k in text.split(",")})
    except ValueError:
        ks = []
    if not ks or ks[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of k; expected positive integers, as in 1,5,10")
    return ks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wmtp_jax.evaluate", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, help="model directory, or the directory of a run")
    add("--samples", type=Path, help="samples.jsonl of an earlier run: only judge them")
    add("--benchmark", required=True, help=f"{', '.join(BENCHMARKS)}, or a .jsonl file of records with tests")
    add("--data", type=Path, help="the benchmark's file (mbpp and codecontests need one)")
    add("--output", type=Path, help="directory of all files (default: of --samples, or evaluations/MODEL-BENCHMARK)")
    add("--k", type=_ks, help="which pass@k, as in 2,20 (default: those of 1,5,10 that the samples allow)")
    add("--n_samples", type=int, default=1, help="programs per problem (default: 1)")
    add("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    add("--top_p", type=float, default=1.0, help="mass of the nucleus")
    add("--top_k", type=int, default=0, help="most probable tokens kept, 0 for all")
    add("--seed", type=int, default=0)
    add("--max_new_tokens", type=int, default=256)
    add("--batch_size", type=int, default=32, help="programs written together")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    add("--no_speculation", action="store_true", help="decode with head 1 alone")
    add("--limit", type=int, help="only the first problems")
    add("--shots", type=int, choices=(0, 3), default=3, help="worked examples in each prompt of mbpp")
    add("--template", choices=("raw", "alpaca"), help="prompt template of microcode, codecontests and files")
    add("--generate_only", action="store_true", help="write samples and run nothing")
    add("--allow_code_execution", action="store_true", help="agree to run programs that a model wrote")
    add(
        "--sandbox",
        choices=SANDBOXES,
        default="bwrap",
        help="none: resource limits only, for programs that are trusted",
    )
    add("--timeout_s", type=float, default=10.0, help="seconds per program")
    add("--memory_mb", type=int, default=1024, help="address space per program")
    add("--workers", type=int, default=os.cpu_count() or 1, help="programs run side by side")
    return parser


if __name__ == "__main__":
    sys.exit(main())
