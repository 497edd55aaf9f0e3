"""What is expected of designs that were not trained, or not to the end, and what they would add to a front.

May import: what `search` may, but samplers and pruners, which build on it.
Start reading: `model.py`; `features.py` says what it knows of a design.
"""
