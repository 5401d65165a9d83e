"""A localizer that was never trained on pairs: what a tagger hears, found among what classifiers see."""
