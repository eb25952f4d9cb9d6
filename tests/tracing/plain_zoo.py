"""Parts for small modules in tests; the modules themselves are the coverage suite ``plain``."""

from ghn_init.coverage.suites.plain_entries import Forward, weight

__all__ = ["Forward", "weight"]
