"""Films as a player shows and plays them: which track, which way up, and every sample at its moment."""
