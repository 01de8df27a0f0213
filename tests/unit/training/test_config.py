"""Every setting out of its range, or at odds with another: one sentence that names it."""

import re

import pytest

from wmtp_jax.errors import UserError
from wmtp_jax.training.config import parse


def refusal(root, *flags: str) -> str:
    """What the command line answers to flags that describe no run."""
    with pytest.raises(UserError) as caught:
        parse(["--config", str(root / "configs/verifiable.py"), *flags])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.stepz=3", "config.train.stepz is not a field"),
        ("train.steps=1e3", "argument --config.train.steps: '1e3' is not a whole number"),
        ("run_name=../up", "config.run_name is '../up'"),
        ("train.steps=0", "config.train.steps is 0; expected 1 or more"),
        ("data.buckets=0.5", "config.data.buckets is (0.5,)"),
        ("data.buckets=64,32", "config.data.buckets"),
        ("data.train=None", "config.data.train is 'None'"),
        ("optimizer.learning_rate=nan", "config.optimizer.learning_rate is nan"),
        ("optimizer.learning_rate=-1", "config.optimizer.learning_rate is -1.0"),
        ("mlflow=maybe", "config.mlflow"),
        ("model.dtype=float8", "config.model.dtype is 'float8'; expected float32 or bfloat16"),
        ("model.remat=some", "config.model.remat is 'some'"),
        ("model.path=", "exactly one of them"),
        ("train.accumulation=3", "does not divide"),
        ("critic.gamma=1.01", "config.critic.gamma is 1.01; expected between 0 and 1"),
        ("critic.gamma=nan", "config.critic.gamma is nan; expected between 0 and 1"),
        ("critic.lambda_=-0.1", "config.critic.lambda_ is -0.1; expected between 0 and 1"),
        ("critic.lambda_alpha=-1.0", "config.critic.lambda_alpha is -1.0"),
        ("critic.returns=td", "config.critic.returns is 'td'; expected monte_carlo or lambda"),
        (
            "evaluation.timeout_s=1e9",
            "config.evaluation.timeout_s is 1000000000.0; expected seconds above 0",
        ),
        ("critic.value_clip=0.0", "config.critic.value_clip is 0.0"),
        ("critic.target_decay=1.0", "config.critic.target_decay is 1.0; expected at least 0 and below 1"),
        ("critic.batch_size=5", "config.critic.pairs is on, but the batch size 5 is odd"),
        ("critic.pairs=False", "config.critic.length_balanced balances pairs"),
        ("weighting.temperature=inf", "config.weighting.temperature is inf; expected a finite number above 0"),
        ("loss.head_weights=(1e999,)", "config.loss.head_weights is (inf,)"),
        ("data.difficulty_weights=(1,)", "config.data.difficulty_weights is (1,); expected pairs of a difficulty"),
        ("seed=9223372036854775808", "config.seed is 9223372036854775808; expected between 0 and 9223372036854775807"),
        ("model.dtype=" + "x" * 100_000, "…; expected float32 or bfloat16"),
        ("weighting.temperature=0.0", "config.weighting.temperature is 0.0; expected a finite number above 0"),
        ("weighting.temperature=nan", "config.weighting.temperature is nan"),
        (
            "weighting.clip=(1.0, 5.0)",
            "config.weighting.clip is (1.0, 5.0); expected two bounds with 0 <= min < 1 < max",
        ),
        ("weighting.clip=(0.1, 1.0)", "config.weighting.clip is (0.1, 1.0)"),
        ("weighting.clip=(-0.1, 5.0)", "config.weighting.clip is (-0.1, 5.0)"),
        ("weighting.clip=(0.1,)", "config.weighting.clip is (0.1,)"),
        ("weighting.entropy_floor=1.5", "config.weighting.entropy_floor is 1.5; expected between 0 and 1"),
        ("weighting.normalization=rank", "config.weighting.normalization is 'rank'; expected zscore or minmax or none"),
        ("weighting.ema_decay=1.0", "config.weighting.ema_decay is 1.0"),
        ("weighting.control=reversed", "config.weighting.control is 'reversed'; expected none or uniform"),
        ("rho1.mode=topk", "config.rho1.mode is 'topk'; expected weighted or top_k"),
        ("rho1.keep_fraction=0.0", "config.rho1.keep_fraction is 0.0; expected above 0 and at most 1"),
        ("data.policy_samples=incorrect", "config.data.policy_samples is 'incorrect'; expected correct or all"),
        ("loss.heads=first", "config.loss.heads is 'first'; expected all or next_token"),
    ],
)
def test_settings_out_of_range(root, setting, message):
    assert message in refusal(root, f"--config.{setting}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config is missing"),
        (["--config"], "argument --config: expected one argument"),
        (["--config", "configs/nowhere.py"], "'configs/nowhere.py' does not exist"),
        (["--config", "configs/baseline.py:huge"], "unknown preset 'huge'; expected micro or 7b"),
        (["--config", "configs/baseline.py", "--conf.train.steps=3"], "unexpected argument '--conf.train.steps=3'"),
        (["--config", "configs/baseline.py", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_wrong_command_lines(flags, message, monkeypatch, root):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=re.escape(message)):
        parse(flags)


def test_running_statistics_without_a_z_score(root):
    error = refusal(root, "--config.weighting.statistics=ema", "--config.weighting.normalization=minmax")
    assert "config.weighting.statistics is 'ema', which only --config.weighting.normalization=zscore uses" in error
