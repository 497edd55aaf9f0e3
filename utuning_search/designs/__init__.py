"""Designs: which tuners, at which operations, in which form, how large, in which blocks; and sets of them, `spaces`.

May import: `tuners`, `common`; scipy in `nearest.py` only.
Start reading: `placement.py`, then `design.py`; `presets.py` for the known methods.
"""
