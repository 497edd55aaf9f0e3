"""Callbacks: who is told of rungs, trials and finals while they come, and loggers, which write them elsewhere.

May import: `search.trials`; TensorBoard and MLflow in the module of each.
Start reading: `base.py`, then `logger.py`.
"""
