"""What others add to utuning-search: one module a kind. Nothing is registered here; see pyproject.toml."""
