"""Tests of utuning_search.training."""
