"""From a resolved config to a trained model: state, step, optimiser, checkpoints, metrics."""
