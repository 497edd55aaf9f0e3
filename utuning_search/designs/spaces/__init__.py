"""Spaces: designs with sets where values would be, read from TOML.

May import: the rest of `designs`, `tuners`, `common`.
Start reading: `space.py`; `slot.py` is the part that it is made of.
"""
