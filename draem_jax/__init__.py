"""DRÆM in JAX: surface anomaly detection that learns from normal pictures only."""
