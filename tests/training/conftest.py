"""What tests of training share."""

import pytest

from draem_jax.recipes import benchmark_config
from draem_jax.training.plan import Plan, make_plan


@pytest.fixture(scope="session")
def authors_plan() -> Plan:
    """The authors' run on MVTec AD bottle, as an accelerator would make it.

    It takes a while, so that tests with it are to be in the group "authors_plan".
    """
    config = benchmark_config("mvtec_ad", "bottle", default="bottle")
    # Else what small batches take is hidden by what validation does.
    config.train.validation_pictures = 1
    return make_plan(config, cpu=False)
