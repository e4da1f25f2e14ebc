"""One reader a source; each turns its files into the canonical tables of `log.schema`."""

from onesearch.log.sources.amazon import Amazon
from onesearch.log.sources.bestbuy import BestBuy
from onesearch.log.sources.chorus import Chorus
from onesearch.log.sources.kuaisearch import KuaiSearch
from onesearch.log.sources.mapped import FileMapping, Mapped
from onesearch.log.sources.source import Raw, Source

__all__ = ["Amazon", "BestBuy", "Chorus", "FileMapping", "KuaiSearch", "Mapped", "Raw", "Source"]
