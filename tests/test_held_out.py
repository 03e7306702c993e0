"""A network is not tested on people that it learned from."""

import pytest

from helpers.people import config
from mdvit_jax import errors
from mdvit_jax.config import save_config
from mdvit_jax.studies import held_out


def test_a_network_trained_on_another_split_is_not_tested(tmp_path):
    save_config(config(), tmp_path)
    held_out.check_run(config(), tmp_path)
    held_out.check_run(config(optim__steps="9", data__size="64"), tmp_path)
    held_out.check_run(config(data__layout="bids", seed="1"), tmp_path)
    for change in (
        {"seed": "1"},
        {"data__split": "(2, 2, 2)"},
        {"data__synthetic__scale": "0.2"},
    ):
        with pytest.raises(errors.UserError, match="people it learned from"):
            held_out.check_run(config(**change), tmp_path)
