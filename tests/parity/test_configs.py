"""Equal defaults, equal published settings, equal state dicts."""


def differences(real: dict, ours: dict) -> dict:
    """Keys that the real engine lacks or has other values for."""
    return {key: (real.get(key, "absent"), value) for key, value in ours.items() if real.get(key, "absent") != value}


def test_defaults_are_equal(both):
    real, ours = both("config_cases:defaults")
    assert differences(real, ours) == {}
    assert len(ours) > 150


def test_published_settings_and_state_dicts_are_equal(both, clone):
    real, ours = both("config_cases:published", clone / "configs")
    for name, (settings, shapes) in ours.items():
        assert differences(real[name][0], settings) == {}, name
        assert shapes == real[name][1], name
        assert len(shapes) > 250, name


def test_se_psnet_s_settings_and_state_dicts_are_equal(both):
    real, ours = both("config_cases:se_psnet")
    assert real.keys() == ours.keys() and len(ours) >= 7
    for name, (settings, shapes) in ours.items():
        assert differences(real[name][0], settings) == {}, name
        assert shapes == real[name][1], name
        assert len(shapes) > 150, name
