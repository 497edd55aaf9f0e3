"""The search: studies, what is tried next, what is kept of it, and when it ends.

May import: `training` and everything below it; Optuna at its doors.
Start reading: `study.py`, then `scheduler.py` for what happens to one trial.
"""
