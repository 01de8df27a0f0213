"""Does the critic find the token that decides? A task in which one does.

    python benchmarks/planted_token.py --out planted_token.json --plot planted_token.png

A solution is a row of letters with one "+" or "-" in it, and that alone makes it correct or incorrect. A
fresh critic of its own network learns from correct and incorrect solutions as in stage 1 (binary cross-entropy and
ranking of pairs). On unseen solutions the value should stay near 1/2, jump at the deciding token and stay there; with
lambda .95 that token of a correct solution should get the largest weight, and that of an incorrect one the lowest
temporal-difference error. About half a minute on 2 CPU cores.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from configs import verifiable
from wmtp_jax.data import Example, Examples, Sampling, evaluation_batches, from_examples, make_batches
from wmtp_jax.files import write_atomically
from wmtp_jax.model import ModelConfig, MTPTransformer, ValueHead, init_params
from wmtp_jax.objectives.critic import Critic
from wmtp_jax.objectives.verifiable import Verifiable
from wmtp_jax.report import solution_plot
from wmtp_jax.training.loop import device_batch
from wmtp_jax.training.optimizer import make_optimizer
from wmtp_jax.training.state import create_state
from wmtp_jax.training.step import make_critic_step
from wmtp_jax.weighting import area_under_curve, before_last_token, td_errors, token_advantages, token_weights

TEXTS = ("", "<s>", "</s>", "+", "-", *"abcdefgh")
BEGIN, END, PLUS, MINUS, LETTERS = 1, 2, 3, 4, range(5, 13)
LENGTH, BATCH_SIZE = 24, 32
NETWORK = ModelConfig(dim=16, n_layers=2, n_heads=2, vocab_size=len(TEXTS), ffn_dim=32, max_seq_len=LENGTH)


def planted_examples(n_problems: int, seed: int) -> Examples:
    """One correct and one incorrect solution per problem, alike but for the deciding token.

    A prompt of <s> and two letters, then 10 to 20 letters with "+" or "-" at a random place, then </s>.
    """
    rng = np.random.default_rng(seed)
    examples = []
    for problem in range(n_problems):
        tokens = np.concatenate([[BEGIN], rng.choice(LETTERS, 2 + rng.integers(10, 21)), [END]]).astype(np.int32)
        tokens[rng.integers(4, len(tokens) - 2)] = PLUS
        for label, token in (("correct", PLUS), ("incorrect", MINUS)):
            own = np.where(tokens == PLUS, token, tokens).astype(np.int32)
            task_id = f"planted{problem}_{label}_0"
            examples.append(Example(own, np.arange(len(own)) >= 3, label == "correct", task_id))
    return from_examples(examples)


def train_critic(examples: Examples, steps: int, seed: int = 0) -> tuple[MTPTransformer, Verifiable, dict, dict]:
    """Stage 1: the policy (fresh, the critic does not read it), the objective, the policy's and critic's parameters."""
    config = verifiable.get_config()
    config.critic.update({"surprise": False, "steps": steps})
    config.critic.optimizer.update({"learning_rate": 1e-2, "weight_decay": 0.0})
    model = MTPTransformer(NETWORK)
    critic = Critic(ValueHead(0), surprise=False, separate=model)
    objective = Verifiable(config, 1, critic)
    optimizer = make_optimizer(config.critic.optimizer, steps)
    params = init_params(NETWORK, seed)
    state = create_state(critic.init(jax.random.key(seed), model, init_params(NETWORK, seed + 1)), optimizer)
    step = jax.jit(make_critic_step(model, objective, optimizer), donate_argnums=1)
    sampling = Sampling(correct_ratio=0.5, pairs=True)
    batches = make_batches(examples, batch_size=BATCH_SIZE, seed=seed, buckets=(LENGTH,), sampling=sampling)
    for _ in range(steps):
        state, _ = step(params, state, device_batch(next(batches)))
    batches.close()
    return model, objective, params, state.params


def evaluate(
    model: MTPTransformer, objective: Verifiable, params: dict, value_params: dict, examples: Examples
) -> dict:
    """The critic on solutions that it has not seen.

    Returns:
        tokens, mask, decides (the deciding token), values, errors, advantages, weights: each [B, S], the advantages at
        lambda .95 and weights over the correct solutions as in stage 2; is_correct [B].
    """
    settings, weighting = objective.config.critic, objective.config.weighting
    (batch,) = evaluation_batches(examples, batch_size=len(examples), buckets=(LENGTH,))
    batch = device_batch(batch)
    forward = jax.jit(lambda *inputs: objective.forward(model, *inputs[:2], None, inputs[2])[2])
    scores = forward(params, value_params, batch)
    values, mask, correct = jax.nn.sigmoid(scores["value_logits"]), batch["target_mask"], batch["is_correct"]
    advantages = token_advantages(values, correct, mask, gamma=settings.gamma, lambda_=settings.lambda_)
    found = {
        "tokens": batch["tokens"],
        "mask": mask,
        "decides": (batch["tokens"] == PLUS) | (batch["tokens"] == MINUS),
        "values": values,
        "errors": td_errors(values, correct, mask, gamma=settings.gamma),
        "advantages": advantages,
        "weights": token_weights(
            advantages,
            objective.policy_mask(jax.tree.map(jnp.asarray, batch)),
            normalization=weighting.normalization,
            temperature=weighting.temperature,
            entropy_floor=weighting.entropy_floor,
            clip=tuple(weighting.clip),
        ),
        "is_correct": correct > 0,
        "before_last": before_last_token(scores["value_logits"], mask),
    }
    return {name: np.asarray(x) for name, x in found.items()}


def summary(found: dict) -> dict[str, float]:
    """The claims, in numbers."""
    correct, mask, rows = found["is_correct"], found["mask"], np.arange(len(found["mask"]))
    decides = found["decides"].argmax(1)
    before, after = found["values"][rows, decides - 1], found["values"][rows, decides]
    heaviest = np.where(mask, found["weights"], -np.inf).argmax(1)
    lowest = np.where(mask, found["errors"], np.inf).argmin(1)
    return {
        "auc": area_under_curve(found["before_last"], correct).value,
        "value_before": float(before.mean()),
        "value_after_correct": float(after[correct].mean()),
        "value_after_incorrect": float(after[~correct].mean()),
        "smallest_jump_correct": float((after - before)[correct].min()),
        "smallest_fall_incorrect": float((before - after)[~correct].min()),
        "heaviest_is_the_deciding_token": float(np.mean(heaviest == decides, where=correct)),
        "lowest_error_is_the_deciding_token": float(np.mean(lowest == decides, where=~correct)),
    }


def by_distance(found: dict, reach: int = 4) -> list[dict[str, float]]:
    """Means by distance from the deciding token."""
    decides, rows = found["decides"].argmax(1), np.arange(len(found["mask"]))
    lines = []
    for offset in range(-reach, reach + 1):
        at = np.clip(decides + offset, 0, LENGTH - 1)
        inside, correct = found["mask"][rows, at], found["is_correct"]
        mean = lambda name, which, at=at: float(found[name][rows, at][which].mean())
        line = {"offset": offset}
        for name in ("value", "error"):
            line[f"{name}_correct"] = mean(f"{name}s", inside & correct)
            line[f"{name}_incorrect"] = mean(f"{name}s", inside & ~correct)
        lines.append(line | {"weight": mean("weights", inside & correct)})
    return lines


def plot(found: dict, row: int, out_png: Path, title: str) -> None:
    """One solution, from the last prompt token on."""
    mask = found["mask"][row]
    first, last = np.flatnonzero(mask)[[0, -1]]
    shown = slice(first - 1, last + 1)
    of_targets = lambda name: np.where(mask, found[name][row], np.nan)[shown]
    values = np.where(np.arange(LENGTH) < last, found["values"][row], np.nan)[shown]
    texts = [TEXTS[token] for token in found["tokens"][row][shown]]
    weights, advantages = of_targets("weights"), of_targets("advantages")
    solution_plot(texts, out_png, weights=weights, values=values, advantages=advantages, title=title)


def main() -> None:
    """Trains, prints the table, writes the JSON and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("planted_token.json"))
    parser.add_argument("--plot", type=Path, default=Path("planted_token.png"))
    arguments = parser.parse_args()
    trained = train_critic(planted_examples(400, seed=1), arguments.steps, arguments.seed)
    found = evaluate(*trained, planted_examples(100, seed=2))
    numbers, lines = summary(found), by_distance(found)
    for name, value in numbers.items():
        print(f"{name.replace('_', ' '):40}{value:8.3f}")
    print(f"\n{'offset':>6}{'value +':>10}{'value -':>10}{'error +':>10}{'error -':>10}{'weight +':>10}")
    for line in lines:
        print(f"{line['offset']:>+6d}" + "".join(f"{value:10.3f}" for value in list(line.values())[1:]))
    plot(found, int(found["is_correct"].argmax()), arguments.plot, "an unseen correct solution")
    report = {"steps": arguments.steps, "seed": arguments.seed, "summary": numbers, "by_distance": lines}
    write_atomically(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
