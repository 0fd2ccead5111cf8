"""NaFlex's tower: positions of the table's own grid are the table, and room that is left changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import models
from mmjax.core.errors import UserError

ENCODER = {"name": "naflex", "patch": 2, "grid": 3, "width": 8, "depth": 1, "heads": 2, "mlp": 12}


def patches(rows, columns, count, fill=0.0):
    """Random patches of a grid, and `count - rows x columns` places without one."""
    size = rows * columns
    rng = np.random.default_rng(0)
    places = np.concatenate([np.ones((size, 1)), np.stack(np.divmod(np.arange(size), columns), 1)], 1)
    found = np.concatenate([rng.normal(size=(size, 12)), places], 1)
    room = np.zeros((count - size, 15))
    room[:, :12] = fill
    return jnp.asarray(np.concatenate([found, room])[None], jnp.float32)


@pytest.fixture(scope="module")
def tower():
    model = models.build({"name": "classifier", "encoder": ENCODER})
    params, stats = model.init(jax.random.key(0))
    return model.bind(params, stats).encoder


def test_the_tables_own_grid_is_the_table(tower):
    found = tower._positions(patches(3, 3, 9))[0]
    np.testing.assert_allclose(found, tower.positions[...], atol=1e-6)


def test_one_row_is_the_mean_over_rows_as_wide_as_the_table(tower):
    table = tower.positions[...].reshape(3, 3, 8)
    # A row three times as coarse reaches to all three, which count 2/3, 1 and 2/3.
    wanted = (2 * table[0] + 3 * table[1] + 2 * table[2]) / 7
    np.testing.assert_allclose(tower._positions(patches(1, 3, 3))[0], wanted, atol=1e-6)


def test_room_that_is_left_changes_nothing(tower):
    whole = tower(patches(2, 3, 6))
    for fill in (0.0, 7.0):
        np.testing.assert_allclose(tower(patches(2, 3, 11, fill)), whole, atol=1e-6)


def test_patches_of_another_size_are_one_line(tower):
    with pytest.raises(UserError, match=r"patches of 30 columns, and patch 2 makes 12 \+ 3"):
        tower(jnp.zeros((1, 4, 30)))
