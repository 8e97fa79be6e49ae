"""Studies: variants of a config trained side by side, on the same products and seeds."""

from draem_jax.studies.study import Product, Run, Study, Variant, parse_study, study_config

__all__ = ["Product", "Run", "Study", "Variant", "parse_study", "study_config"]
