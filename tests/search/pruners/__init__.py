"""Tests of utuning_search.search.pruners."""
