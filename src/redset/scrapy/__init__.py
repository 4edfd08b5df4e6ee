"""A scheduler for Scrapy: any number of spider processes share one crawl, and a killed process loses no request.

    SCHEDULER = "redset.scrapy.Scheduler"
    REDSET_URL = "redis://localhost"

It needs the extra ``redset[scrapy]``.
"""

try:
    import scrapy
except ImportError as error:
    raise ImportError('redset.scrapy needs the package scrapy: pip install "redset[scrapy]"') from error
del scrapy

from redset.scrapy.scheduler import Scheduler  # noqa: E402 - after the check

__all__ = ("Scheduler",)
