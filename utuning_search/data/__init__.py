"""Images and labels in memory, split by seed; test images only with a permit, which only `results.permitted` makes.

May import: `backbones` for preprocessing, `common`; scikit-learn, torchvision and Pillow at their doors.
Start reading: `loading.py`; `source.py` is what every source of images offers.
"""
