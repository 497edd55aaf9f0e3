"""How well finals tell images of other kinds from their own: out-of-distribution (OOD) detection.

May import: `training` for scores and models, `data` for images, and the rest of `results`.
Start reading: `detect.py`; `scoring.py` has what is compared, and `intervals.py` how sure it is.
"""
