"""One thin module per job a person runs, the recipes, and the one command `cacl`."""
