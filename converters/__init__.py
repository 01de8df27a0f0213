"""Model files <-> Flax param trees: Meta's layout, Hugging Face's Llama, and the tree itself."""

from converters.errors import ConverterError
from converters.load import load, load_hf, load_meta, load_reward_model, load_tree
from converters.save import save_hf, save_meta, save_tree

__all__ = [
    "ConverterError",
    "load",
    "load_hf",
    "load_meta",
    "load_reward_model",
    "load_tree",
    "save_hf",
    "save_meta",
    "save_tree",
]
