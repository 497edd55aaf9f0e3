"""Tests of utuning_search.data."""
