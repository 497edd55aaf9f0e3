"""Frozen backbones: the doors of timm, one adapter a family, and how a design's tuners run inside one.

May import: `designs`, `tuners`, `common`; torch, and timm and huggingface_hub in the modules that pyproject.toml names.
Start reading: `family.py`, then `tuned_model.py`.
"""
