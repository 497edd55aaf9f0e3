"""Tests of utuning_search.tuners."""
