"""What `benchmarks/fuzz.py` is made of: valid samples, mutations of them, and the parsers that read them."""
