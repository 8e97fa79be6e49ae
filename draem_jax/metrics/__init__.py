"""What detectors are measured by: the metrics' names and words, and how each is computed."""
