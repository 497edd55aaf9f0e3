"""The methods' authors' own code, loaded from outside the repository, against the presets; see `originals.py`."""
