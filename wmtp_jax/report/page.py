"""report.html: the whole run on one page that needs nothing beside it."""

import base64
import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wmtp_jax.files import write_atomically
from wmtp_jax.jsonl import fields_of
from wmtp_jax.report.plot import loss_plot
from wmtp_jax.report.table import HEADER, Measure, table_cells

_STYLE = """
:root { --ink: #1d2430; --soft: #667085; --line: #e4e7ec; --good: #067647; --bad: #b42318; --card: #ffffff; }
body { margin: 0; background: #f6f7f9; color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 40px 20px 60px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
.facts { color: var(--soft); margin: 4px 0 24px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px;
  margin: 16px 0; overflow-x: auto; }
h2 { font-size: 15px; margin: 0 0 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; font-size: 13px; }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: 0; }
.improved { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.unchanged { color: var(--soft); }
img { width: 100%; height: auto; display: block; }
code, td.code { font: 13px/1.5 ui-monospace, monospace; }
pre { margin: 0; white-space: pre-wrap; word-break: break-all; font: 13px/1.5 ui-monospace, monospace; }
summary { cursor: pointer; font-weight: 600; }
details table { margin-top: 12px; }
details td { white-space: normal; word-break: break-word; text-align: left; }
"""


def write_report(
    run_directory: Path,
    rows: Sequence[Measure],
    metrics: Sequence[Mapping[str, Any]],
    model_directory: Path | None = None,
) -> Path:
    """Writes loss.png and report.html into a run directory: table, plot, config, environment.

    Args:
        run_directory: holds config.json and environment.json.
        rows: of the closing table.
        metrics: entries of metrics.jsonl.
        model_directory: where the trained model was exported to.

    Returns:
        The page's path.
    """
    loss_plot(metrics, run_directory / "loss.png")
    plot = base64.b64encode((run_directory / "loss.png").read_bytes()).decode()
    config = json.loads((run_directory / "config.json").read_text(encoding="utf-8"))
    starts = json.loads((run_directory / "environment.json").read_text(encoding="utf-8"))["starts"]
    last = starts[-1]
    facts = [last["time"][:16].replace("T", " "), _hardware(last), f"jax {last['packages']['jax']}"]
    facts += [f"{len(starts)} starts"] if len(starts) > 1 else []
    sections = [
        f"<section><h2>Before and after, on the validation split</h2>{_measures(rows)}</section>",
        f'<section><h2>Loss</h2><img alt="loss per head" src="data:image/png;base64,{plot}"></section>',
    ]
    if model_directory is not None:
        sections.append(f"<section><h2>Trained model</h2><pre>{html.escape(str(model_directory))}</pre></section>")
    sections += [
        f"<section><h2>Command</h2><pre>{html.escape(shlex.join(last['command']))}</pre></section>",
        f"<section><details><summary>Config</summary>{_key_values(config)}</details></section>",
        f"<section><details><summary>Environment</summary>{_key_values(last)}</details></section>",
    ]
    title = html.escape(run_directory.name)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><main><h1>{title}</h1><p class="facts">{html.escape(" · ".join(facts))}</p>'
        f"{''.join(sections)}</main></body></html>\n"
    )
    path = run_directory / "report.html"
    write_atomically(path, page)
    return path


def _measures(rows: Sequence[Measure]) -> str:
    head = "".join(f"<th>{name}</th>" for name in HEADER)
    lines = []
    for row in rows:
        *texts, verdict = map(html.escape, table_cells(row))
        cells = "".join(f"<td>{text}</td>" for text in texts)
        lines.append(f'<tr>{cells}<td class="{verdict.partition(" ")[0]}">{verdict}</td></tr>')
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _key_values(values: Mapping[str, Any]) -> str:
    rows = ""
    for key, value in fields_of(values):
        text = value if isinstance(value, str) else json.dumps(value)
        rows += f'<tr><td class="code">{html.escape(key)}</td><td class="code">{html.escape(text)}</td></tr>'
    return f"<table>{rows}</table>"


def _hardware(start: Mapping[str, Any]) -> str:
    """Such as "8 x NVIDIA H100" or "16 CPU cores"; the device's kind follows its number."""
    kinds = [device.split(" ", 1)[-1] for device in start["devices"]]
    if set(kinds) == {"cpu"}:
        return f"{start['cpu_count']} CPU cores"
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
