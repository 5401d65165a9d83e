"""Work under random kills, signals and full disks, each time compared with the same work left alone."""
