"""A program that uses spider: `init` finds the integration by itself.

pip install examples/third_party_integration
CRASHFREE_DSN=... python examples/third_party_integration/program.py
"""

from __future__ import annotations

import crashfree

crashfree.init(release="crawl@1.0.0")

import spider  # noqa: E402 -- before `init` would do as well


def read(page: spider.Page) -> int:
    return len(page.url) // (0 if "broken" in page.url else 1)


crawler = spider.Crawler(read)
crawler.crawl(
    [
        spider.Page("https://example.com/", "start"),
        spider.Page("https://example.com/a", "link"),
        spider.Page("https://example.com/broken", "link"),
    ]
)
print(f"{len(crawler.failed)} page failed; integrations: {crashfree.get_client().integrations}")
