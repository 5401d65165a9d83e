"""What tests and benchmarks both use. No test stands here."""
