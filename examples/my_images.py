"""My images: a folder a class in, labels out.

python examples/my_images.py photos --time 10m --max-params 100k
"""

import sys
from pathlib import Path

from utuning_search import load_tuned
from utuning_search.cli import main

OUT = "recommended/mine"

if __name__ == "__main__":  # workers are processes, which import this script
    data, *options = sys.argv[1:]
    code = main(["recommend", "--data", data, "--out", OUT, *options])
    if code:
        sys.exit(code)

    model = load_tuned(OUT)
    pictures = sorted(path for path in Path(data).rglob("*") if path.suffix in (".png", ".jpg"))[:5]
    found = model.predict(pictures)
    for picture, likely in zip(pictures, found.top(2), strict=True):
        print(picture, *(f"{name} {probability:.0%}" for name, probability in likely))
