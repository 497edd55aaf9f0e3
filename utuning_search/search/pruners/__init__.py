"""Pruners: whether a trial goes on at a rung.

May import: `search.objectives`, `search.history`; Optuna in `wrapped.py` and `known.py`.
Start reading: `base.py`, then `pareto.py`, the default.
"""
