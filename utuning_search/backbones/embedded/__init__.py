"""The embedded default: a small ViT pretrained on printed letters, and the scripts that made it."""
