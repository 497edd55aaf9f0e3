"""Frozen backbones: the doors of timm, one adapter a family, and how a design's tuners run inside one.

May import: `designs`, `tuners`, `common`; torch, and timm in `vit.py`, `loading.py`, `supported.py` and `embedded/`.
Start reading: `family.py`, then `tuned_model.py`.
"""
