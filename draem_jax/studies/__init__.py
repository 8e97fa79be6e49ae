"""Studies: variants of a config trained side by side, on the same pictures and seeds."""

from draem_jax.studies.study import Run, Study, Variant, parse_study, study_config

__all__ = ["Run", "Study", "Variant", "parse_study", "study_config"]
