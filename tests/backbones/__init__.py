"""Tests of utuning_search.backbones."""
