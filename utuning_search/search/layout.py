"""What the files of a study's folder are called."""

SPEC, LOCAL, WEIGHTS, SPLITS = "spec.toml", "run.toml", "weights", "splits.json"
IMAGES = ".images.safetensors"  # decoded ones, for the workers of one run
