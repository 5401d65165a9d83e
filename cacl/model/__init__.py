"""The localizer: image and sound towers, heads, spectrograms, and where weights come from."""
