"""What people look at: reports, galleries, charts, and overlays of films and pictures."""
