"""Files of JSON that any program can read."""

import json
import math

import numpy as np
import pytest

from mdvit_jax.io import json_file


def test_what_is_not_finite_becomes_null(tmp_path):
    content = {
        "numbers": np.array([1.5, np.nan, -np.inf]),
        "one": np.float32(0.5),
        "pair": (1, math.inf),
        "within": [{"none": None, "true": True, "word": "NaN é \udce9"}],
    }
    json_file.write(tmp_path / "a.json", json_file.finite(content))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "numbers": [1.5, None, None],
        "one": 0.5,
        "pair": [1, None],
        "within": [{"none": None, "true": True, "word": "NaN é \udce9"}],
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_file.write(tmp_path / "a.json", {"number": math.nan})
