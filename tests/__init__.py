"""Tests of utuning_search; `pytest` runs them from the repository root."""
