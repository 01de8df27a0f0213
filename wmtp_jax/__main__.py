"""python -m wmtp_jax: the commands, one line each."""

COMMANDS = {
    "wmtp_jax.train": "train a model with weighted tokens; ends with a table, a page and an exported model",
    "wmtp_jax.plan": "what a training step needs on devices that are not there",
    "wmtp_jax.evaluate": "pass@k on HumanEval, MBPP, CodeContests, the embedded tasks or a file of problems",
    "wmtp_jax.generate": "continue a prompt; the extra heads draft, the first head checks",
    "wmtp_jax.storage": "set up models and data sets, and verify them",
    "wmtp_jax.microcode": "make the embedded tasks again, byte for byte",
    "converters": "inspect, convert and verify models: Meta, Hugging Face and Flax layouts",
}


def main() -> None:
    """Prints the list."""
    print("Weighted multi-token prediction for code language models. Commands (each has --help):\n")
    for module, line in COMMANDS.items():
        print(f"  python -m {module:<20}{line}")
    print("\nStart here:\n  python -m wmtp_jax.train --config configs/verifiable.py")


if __name__ == "__main__":
    main()
