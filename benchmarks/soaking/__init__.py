"""What `soak.py` does to a study that many processes share."""
