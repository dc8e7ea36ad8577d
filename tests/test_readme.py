"""The README's research code runs as it is printed."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_the_code_in_the_readme_runs_and_says_what_its_comments_say():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    names = {}
    exec(code, names)
    assert names["many_x"].shape == (9, 64, 64)
    found, days = names["found"], np.asarray(names["days"])
    assert found.valid.sum() == 4
    assert days[0] == 0 and (np.diff(days[:4]) > 0).all() and np.isnan(days[4:]).all()
    assert all(np.isfinite(v) for v in names["slope"])
