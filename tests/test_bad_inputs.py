"""The corpus of bad inputs, counted: how many end otherwise than with an error that is an answer."""

import pytest

from tests.bad_inputs import bad_inputs, outcome


@pytest.mark.slow
def test_bad_inputs_are_refused_and_change_nothing():
    results = [(case.name, *outcome(case)) for case in bad_inputs()]
    assert len(results) >= 545
    accepted = {name for name, kind, _, _ in results if kind == "accepted"}
    other = {name: kind for name, kind, _, _ in results if kind not in ("accepted", "refused")}
    # Neither does harm: no method looks for the layer here, and torch takes a smoothing below 0 for none.
    assert accepted == {"classifier='nowhere'", "criterion__label_smoothing=-1.0"}
    assert all(name.startswith("load_params(f_nothing=") for name in other), other  # skorch's AttributeError
    assert not [name for name, _, _, changed in results if changed]


def test_some_of_them():
    for case in list(bad_inputs())[::25]:
        kind, message, changed = outcome(case)
        assert kind == "refused", case.name
        assert message
        assert not changed
