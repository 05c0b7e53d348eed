"""What a call costs, exactly: usage x model x tier x time -> pico-USD.

Prices come from genai-prices (its bundled table; nothing is ever fetched) or from a provider
file's override. They are compiled once into integer rates, valid for an interval of time, so
that pricing a reply is a handful of integer multiplications.

An attempt is priced at the time its request is made: pass that same `at` to
`Prices.ceiling_pico` and to `Prices.cost`, and the ceiling holds.
"""

from .book import Prices
from .rates import Band, RateCard, Tariff

__all__ = ["Band", "Prices", "RateCard", "Tariff"]
