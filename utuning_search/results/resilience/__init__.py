"""What finals are worth in trouble: corrupted images, and weights with flipped bits.

May import: `training` for models, `data` for images, and the rest of `results`.
Start reading: `measure.py`.
"""
