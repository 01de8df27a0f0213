"""The trained model as a directory that any torch program, or another run, can load."""

import shutil
from pathlib import Path

import ml_collections

import converters
from wmtp_jax.model import ModelConfig
from wmtp_jax.storage import is_complete, resolve, write_checksums
from wmtp_jax.training.assets import Assets, n_parameters

_SAVE = {"meta": converters.save_meta, "hf": converters.save_hf}


def export_model(
    directory: Path,
    config: ml_collections.ConfigDict,
    model_config: ModelConfig,
    params: dict,
    assets: Assets,
    measures: dict[str, float],
) -> None:
    """Writes weights, architecture, tokenizer, metadata.json and SHA256SUMS; an export that is there is left alone.

    Args:
        directory: of the export.
        config: of the run.
        model_config: the architecture.
        params: the trained parameters.
        assets: gives the tokenizer.
        measures: what the model reached on the validation split, for metadata.json.
    """
    if is_complete(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    source = resolve(config.model.path) if config.model.path else None
    _SAVE[config.export.layout](directory, model_config, params, dtype=config.export.dtype, source=source)
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
