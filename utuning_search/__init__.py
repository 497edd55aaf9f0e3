"""Search over parameter-efficient tuner designs for frozen vision transformers."""
