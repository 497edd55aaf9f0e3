"""Write scikit-learn's 1,797 handwritten digits as pictures: photos/7/42.png shows a seven."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
    path = Path("photos", str(label), f"{i}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype("uint8")).save(path)
