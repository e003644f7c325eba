"""How long to search where every example starts processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

Test = Callable[..., Any]


def slow(examples: int) -> Callable[[Test], Test]:
    """Few examples, or fifty times as many in the thorough profile.

    Shrinking takes hundreds of runs: the normal profile shows the example as it was found, with its blob.
    """
    unhealthy = [HealthCheck.too_slow, HealthCheck.data_too_large]
    if settings.get_current_profile_name() == "thorough":
        chosen = settings(max_examples=50 * examples, suppress_health_check=unhealthy)
        return lambda test: pytest.mark.timeout(0)(chosen(test))
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(max_examples=examples, phases=phases, suppress_health_check=unhealthy)
