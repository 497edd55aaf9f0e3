"""Tests of utuning_search.common."""
