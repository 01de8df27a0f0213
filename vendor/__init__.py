"""Code that follows a published architecture; used by tests and benchmarks alone."""
