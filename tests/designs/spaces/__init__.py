"""Tests of utuning_search.designs.spaces."""
