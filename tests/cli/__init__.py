"""Tests of utuning_search.cli."""
