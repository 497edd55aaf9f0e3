"""Samplers: which design is tried next.

May import: `search.objectives`, `search.trials`, `designs`; Optuna in `wrapped.py`.
Start reading: `base.py`; `registry.py` lists ours.
"""
