"""Pages of the manual that are written from the code: what a recipe can set, and what the command takes."""
