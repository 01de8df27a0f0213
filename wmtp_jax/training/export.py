"""The trained model as a directory that any torch program, or another run, can load."""

import shutil
from pathlib import Path

import jax
import ml_collections

import converters
from wmtp_jax.storage import is_complete, resolve, write_checksums
from wmtp_jax.training.assets import Assets

_SAVE = {"meta": converters.save_meta, "hf": converters.save_hf}


def export_model(
    directory: Path, config: ml_collections.ConfigDict, assets: Assets, params: dict, measures: dict[str, float]
) -> None:
    """Writes weights, architecture, tokenizer, metadata.json (with the measures) and SHA256SUMS.

    A complete export is left alone.
    """
    if is_complete(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    source = resolve(config.model.path) if config.model.path else None
    save = _SAVE[config.export.layout]
    save(directory, assets.model_config, params, dtype=config.export.dtype, source=source)
    shutil.copyfile(assets.tokenizer.path, directory / "tokenizer.model")
    write_checksums(
        directory,
        {
            "name": config.run_name,
            "source": f"python -m wmtp_jax.train, from {config.model.path or 'nothing'} on {config.data.train}",
            "layout": config.export.layout,
            "dtype": config.export.dtype,
            "parameters": n_parameters(params),
            "valid": measures,
        },
    )


def n_parameters(params: dict) -> int:
    """Number of weights in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
