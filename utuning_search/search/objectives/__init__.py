"""Objectives: what a front weighs, by name; exact before training, or measured after it.

May import: `training` and everything below it; scikit-learn where a metric is measured.
Start reading: `base.py`; `registry.py` lists ours.
"""
