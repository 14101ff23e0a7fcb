"""Hypothesis profiles: ``stress``, which a stress run takes, looks longer and deeper."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from support.stress import pick

_NO_CLOCK = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("default", max_examples=75, stateful_step_count=80, **_NO_CLOCK)
settings.register_profile("stress", max_examples=1500, stateful_step_count=100, **_NO_CLOCK)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or pick("default", "stress"))
