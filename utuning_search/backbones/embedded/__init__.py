"""The embedded default: a small ViT pretrained on printed letters, and the scripts that made it.

May import: the rest of `backbones`, `common`; timm, matplotlib for its fonts and scikit-learn at their doors.
Start reading: `architecture.py`; `pretrain.py` makes its weights from the letters of `glyphs.py`.
"""
