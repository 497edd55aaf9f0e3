"""Tests of utuning_search.results."""
