"""Frozen backbones: the door of timm, and how a design's tuners run inside one.

May import: `designs`, `tuners`, `common`; timm and torch.
Start reading: `vit.py`, then `tuned_model.py`.
"""
