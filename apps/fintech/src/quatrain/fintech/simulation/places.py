"""Where money is spent: kinds of shops, their outlets in the regions and online, tills, and price tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Bools, Codes, Floats, Ints, Pools, Rng, spread

# How prices end, by style: any cent, just below a round price, whole, in steps of five cents, in steps of ten units.
ANY_CENT, JUST_BELOW, WHOLE, FIVE_CENTS, TENS = range(5)


class Kind(NamedTuple):
    """A kind of shop. Medians are in currency units, sigma is that of the logarithm; all assumed."""

    name: str
    is_online: bool
    median: float
    sigma: float
    # Share of all merchants.
    share: float
    # Share of its outlets per price style.
    styles: tuple[float, float, float, float, float]


KINDS = (
    Kind("groceries", False, 24, 0.75, 0.10, (0.85, 0.0, 0.0, 0.15, 0.0)),
    Kind("fuel", False, 42, 0.45, 0.04, (0.8, 0.0, 0.1, 0.1, 0.0)),
    Kind("coffee", False, 6, 0.50, 0.10, (0.3, 0.1, 0.1, 0.5, 0.0)),
    Kind("restaurant", False, 32, 0.65, 0.12, (0.4, 0.1, 0.2, 0.3, 0.0)),
    Kind("transit", False, 4, 0.70, 0.03, (0.3, 0.0, 0.2, 0.5, 0.0)),
    Kind("pharmacy", False, 15, 0.70, 0.05, (0.6, 0.3, 0.0, 0.1, 0.0)),
    Kind("clothing", False, 48, 0.75, 0.09, (0.35, 0.45, 0.15, 0.05, 0.0)),
    Kind("electronics", False, 120, 1.05, 0.03, (0.35, 0.45, 0.2, 0.0, 0.0)),
    Kind("home", False, 60, 0.95, 0.05, (0.4, 0.4, 0.2, 0.0, 0.0)),
    Kind("cash", False, 80, 0.60, 0.03, (0.0, 0.0, 0.0, 0.0, 1.0)),
    Kind("jewellery", False, 180, 0.95, 0.02, (0.3, 0.3, 0.4, 0.0, 0.0)),
    Kind("leisure", False, 20, 0.80, 0.06, (0.3, 0.2, 0.3, 0.2, 0.0)),
    Kind("clothing_online", True, 52, 0.70, 0.06, (0.5, 0.4, 0.1, 0.0, 0.0)),
    Kind("electronics_online", True, 130, 1.05, 0.03, (0.5, 0.4, 0.1, 0.0, 0.0)),
    Kind("home_online", True, 65, 0.90, 0.03, (0.5, 0.4, 0.1, 0.0, 0.0)),
    Kind("marketplace", True, 28, 0.90, 0.02, (0.8, 0.1, 0.1, 0.0, 0.0)),
    Kind("digital", True, 7, 0.70, 0.05, (0.4, 0.5, 0.1, 0.0, 0.0)),
    Kind("travel", True, 190, 0.90, 0.02, (0.7, 0.1, 0.2, 0.0, 0.0)),
    Kind("gift_cards", True, 45, 0.65, 0.01, (0.5, 0.0, 0.2, 0.1, 0.2)),
    Kind("transfers", True, 55, 1.00, 0.0, (0.5, 0.0, 0.2, 0.2, 0.1)),
    Kind("delivery", True, 22, 0.45, 0.03, (0.7, 0.1, 0.0, 0.2, 0.0)),
    Kind("bills", True, 55, 0.50, 0.02, (0.7, 0.1, 0.1, 0.1, 0.0)),
    Kind("charity", True, 15, 0.90, 0.01, (0.2, 0.0, 0.5, 0.2, 0.1)),
)
KIND = {kind.name: code for code, kind in enumerate(KINDS)}
IS_ONLINE: Bools = np.array([kind.is_online for kind in KINDS])
_SIGMA: Floats = np.array([kind.sigma for kind in KINDS])
# Share of a kind's merchants that are chains with an outlet in every region, and how much busier those are.
_CHAIN_SHARE = 0.02
_CHAIN_WEIGHT = 3.0
# Popularity of outlets is log-normal (assumed): the busiest hundredth has a fifth of the custom.
_POPULARITY_SIGMA = 1.2
# Shops of one kind differ in price level by this much in the logarithm (assumed).
_LEVEL_SIGMA = 0.3
# Payment services on which customers pay one another.
_N_WALLETS = 5
# One purchase in so many is far above the usual, by a Pareto factor with this tail (assumed: heavy, finite mean).
_BIG_SHARE = 0.015
_BIG_TAIL = 1.8
# How much of a customer's wealth shows in each price, as an exponent, and in what is bought.
_WEALTH_EXPONENT = 0.6
# No price is lower, or higher, than these, in currency units.
_LOWEST, _HIGHEST = 0.01, 25_000.0


@dataclass(frozen=True, kw_only=True)
class Places:
    """Every outlet; arrays have one entry per outlet unless they say otherwise."""

    n_regions: int
    # The share of people in each region.
    region_share: Floats
    kind: Ints
    region: Ints
    merchant: Ints
    n_merchants: int
    # Logarithm of the median price.
    level: Floats
    style: Codes
    first_terminal: Ints
    n_terminals: Ints
    # Terminals of outlets; people's own handles come after them.
    n_tills: int
    pools: Pools
    wallets: Ints

    def explore(self, rng: Rng, kind: Ints, region: Ints) -> Ints:
        """Return an outlet of each kind by popularity, in each region where the kind is not online."""
        return self.pools.draw(rng, kind * self.n_regions + np.where(IS_ONLINE[kind], 0, region))

    def till(self, rng: Rng, outlet: Ints) -> Ints:
        """Return one terminal of each outlet."""
        chosen = np.floor(rng.random(outlet.shape) * self.n_terminals[outlet]).astype(np.int64)
        return self.first_terminal[outlet] + chosen

    def price(self, rng: Rng, outlet: Ints, wealth: Floats) -> Floats:
        """Return what one ordinary purchase costs, in currency units; `wealth` is around 1."""
        raw = self.level[outlet] + _SIGMA[self.kind[outlet]] * rng.standard_normal(outlet.shape)
        amount = np.exp(raw) * wealth**_WEALTH_EXPONENT
        is_big = rng.random(outlet.shape) < _BIG_SHARE
        amount[is_big] *= 1 + rng.pareto(_BIG_TAIL, int(is_big.sum()))
        return self.tag(rng, outlet, amount)

    def tag(self, rng: Rng, outlet: Ints, amount: Floats) -> Floats:
        """Return amounts as the outlets write them on the price tag."""
        style = self.style[outlet]
        # A shop with odd endings does not use them on every article, nor does one sell single articles only.
        style = np.where((rng.random(outlet.shape) < 0.2) & (style != TENS), ANY_CENT, style)  # noqa: PLR2004
        below = np.ceil(amount) - np.where(rng.random(outlet.shape) < 0.7, 0.01, 0.05)  # noqa: PLR2004
        tens = np.maximum(np.rint(amount / 10) * 10, 10)
        price = np.select(
            [style == JUST_BELOW, style == WHOLE, style == FIVE_CENTS, style == TENS],
            [below, np.maximum(np.rint(amount), 1), np.rint(amount * 20) / 20, tens],
            default=amount,
        )
        cents: Floats = np.rint(np.clip(price, _LOWEST, _HIGHEST) * 100)
        return cents / 100


def make_places(rng: Rng, config: HardConfig) -> Places:
    """Return the shops of a world; every kind can be had in every region or online."""
    n_regions = config.regions
    region_share = 1 / (1 + np.arange(n_regions)) ** 0.8
    region_share /= region_share.sum()
    kind, region, merchant, is_chain = _outlets(rng, config.merchants, region_share)
    weight = np.exp(_POPULARITY_SIGMA * rng.standard_normal(len(kind))) * np.where(is_chain, _CHAIN_WEIGHT, 1.0)
    # Busy outlets have many tills; online shops have a checkout or two.
    tills = np.where(IS_ONLINE[kind], 1 + (weight > 4), np.clip(np.rint(1 + 1.5 * weight), 1, 20))  # noqa: PLR2004
    n_terminals = tills.astype(np.int64)
    styles = Pools.dense(np.array([kind.styles for kind in KINDS]))
    median = np.array([kind.median for kind in KINDS])
    return Places(
        n_regions=n_regions,
        region_share=region_share,
        kind=kind,
        region=region,
        merchant=merchant,
        n_merchants=int(merchant.max()) + 1,
        level=np.log(median[kind]) + _LEVEL_SIGMA * rng.standard_normal(len(kind)),
        style=styles.draw(rng, kind).astype(np.int8),
        first_terminal=np.cumsum(n_terminals) - n_terminals,
        n_terminals=n_terminals,
        n_tills=int(n_terminals.sum()),
        pools=Pools.grouped(kind * n_regions + region, weight, n_pools=len(KINDS) * n_regions),
        wallets=np.flatnonzero(kind == KIND["transfers"]),
    )


def _outlets(rng: Rng, n_merchants: int, region_share: Floats) -> tuple[Ints, Ints, Ints, Bools]:
    """Return (kind, region, merchant, whether of a chain) per outlet; online outlets lie in region 0."""
    share = np.array([kind.share for kind in KINDS])
    singles = np.rint(share * n_merchants).astype(np.int64)
    singles[KIND["transfers"]] = _N_WALLETS
    singles = np.maximum(singles, np.where(IS_ONLINE, 3, 0))
    kind, _ = spread(singles)
    region = np.where(IS_ONLINE[kind], 0, rng.choice(len(region_share), len(kind), p=region_share))
    chains = np.where(IS_ONLINE, 0, np.maximum(np.ceil(_CHAIN_SHARE * singles), 1)).astype(np.int64)
    chain_kind, _ = spread(chains)
    chain, chain_region = spread(np.full(len(chain_kind), len(region_share)))
    return (
        np.concatenate([kind, chain_kind[chain]]),
        np.concatenate([region, chain_region]),
        np.concatenate([np.arange(len(kind)), len(kind) + chain]),
        np.arange(len(kind) + len(chain)) >= len(kind),
    )
