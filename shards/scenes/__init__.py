"""Scenes: frames and sounds made of cut-out pictures, recordings and backgrounds, with exact truth."""
