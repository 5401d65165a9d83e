"""How clips become shards and batches: sources, packing, manifest, order, loaders, audit."""
