"""Images and labels in memory, split by seed.

A search sees the proxy and the validation split only; test images are read with a `TestPermit`, which only
`utuning_search.confirm` makes.
"""

from utuning_search.data.loading import FinalData, SearchData, Split, load_final_data, load_search_data
from utuning_search.data.permit import TestPermit
from utuning_search.data.splits import split_indices
from utuning_search.data.survey import Survey, survey

__all__ = [
    "FinalData",
    "SearchData",
    "Split",
    "Survey",
    "TestPermit",
    "load_final_data",
    "load_search_data",
    "split_indices",
    "survey",
]
