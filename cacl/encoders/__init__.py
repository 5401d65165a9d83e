"""Named image and sound encoders, and where their weights come from."""
