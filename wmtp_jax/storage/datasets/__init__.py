"""Sets up storage/datasets_v2/NAME from published files: records, tests for the evaluator, statistics.

Nothing is imported here: workers need one module of this package, and not jax, which others bring along.
"""
