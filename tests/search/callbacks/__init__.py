"""Tests of utuning_search.search.surrogate."""
