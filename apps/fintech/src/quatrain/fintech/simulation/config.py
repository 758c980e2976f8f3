"""Every knob of the harder world, with its unit and where its default comes from."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from quatrain.core.config import Config

# Rates "per 1,000 customers and 30 days" are some hundred times those of a real portfolio: as in the
# handbook (0.84 % fraud), a file of two million rows must hold enough frauds to measure with.


class HardConfig(Config):
    """Sizes, habits, frauds and labels of the harder world; "assumed" marks what no source gives."""

    # About 2 million transactions over five months that end with the year's two peaks.
    customers: int = Field(default=12_000, ge=50)
    # Shops, chains and payment services; many terminals hang on one.
    merchants: int = Field(default=5_000, ge=100)
    # Places between which cards travel; present purchases happen in one of them.
    regions: int = Field(default=24, ge=2, le=500)
    days: int = Field(default=150, ge=10, le=1_500)
    start: date = date(2025, 8, 4)

    # Errands and online sittings a day for the average customer; each is 1.8 purchases (assumed: about 1.1 a day).
    sittings_per_day: float = Field(default=0.57, gt=0, le=10)
    # Share of sittings that follow one of a customer's own routines: same shops, same order, same hour (assumed).
    routine_share: float = Field(default=0.4, ge=0, le=1)
    # Share of other purchases at one of the customer's usual shops of that kind (assumed).
    habit_share: float = Field(default=0.72, ge=0, le=1)
    # Growth of the number of customers a year (assumed; a mature bank).
    growth_per_year: float = Field(default=0.12, ge=0, le=5)
    # Journeys to another region a year and customer (assumed; two to three of some days).
    trips_per_year: float = Field(default=2.5, ge=0, le=50)
    # Days that a phone is kept (assumed; two and a half years), and a card (three years).
    phone_life_days: float = Field(default=900, gt=0)
    card_life_days: float = Field(default=1_100, gt=0)
    # Share of online purchases whose device stays unknown (assumed; blocked fingerprints).
    unknown_device_share: float = Field(default=0.05, ge=0, le=1)
    # How often honest oddities happen: 1 is the default of each in lookalikes.py, 0 is none.
    lookalikes: float = Field(default=1.0, ge=0, le=10)

    # Cards tested in bursts of tiny amounts, per 1,000 customers and 30 days.
    tested_cards: float = Field(default=16.0, ge=0, le=500)
    # Accounts taken over, per 1,000 customers and 30 days.
    takeovers: float = Field(default=9.0, ge=0, le=500)
    # Cards misused after they were read at a compromised shop, per 1,000 customers and 30 days.
    compromised_cards: float = Field(default=16.0, ge=0, le=500)
    # Rings of mule accounts that start, per 1,000 customers and 30 days.
    rings: float = Field(default=0.8, ge=0, le=50)
    # Cards lost and used by the finder, per 1,000 customers and 30 days.
    lost_cards: float = Field(default=4.0, ge=0, le=500)
    # Customers who buy up to their limit and vanish, per 1,000 customers and 30 days.
    bust_outs: float = Field(default=0.8, ge=0, le=500)
    # Own honest-looking purchases denied later (friendly fraud), per 1,000 customers and 30 days.
    denied_purchases: float = Field(default=4.0, ge=0, le=500)

    # How far the mix of frauds moves over the span: 0 not at all, 1 as in drift.py.
    drift: float = Field(default=1.0, ge=0, le=1)
    # Share of the span after which new tactics appear; 1 is never.
    new_tactics_from: float = Field(default=2 / 3, ge=0, le=1)

    # Median days from a case's last transaction to its report, by type; assumed, in the order of how soon one notices.
    delay_card_testing: float = Field(default=6.0, gt=0)
    delay_account_takeover: float = Field(default=3.0, gt=0)
    delay_merchant_compromise: float = Field(default=7.0, gt=0)
    delay_mule_ring: float = Field(default=16.0, gt=0)
    delay_lost_card: float = Field(default=2.0, gt=0)
    # A monthly statement and the dispute that follows.
    delay_first_party: float = Field(default=25.0, gt=0)
    # Standard deviation of the delay's logarithm (assumed: one case in ten takes 3.2 times the median).
    delay_sigma: float = Field(default=0.9, gt=0, le=3)
    # Days after the last transaction at which the file is drawn: later reports are not in it.
    # Card schemes let a cardholder dispute for 120 days.
    closed_after_days: float = Field(default=120, ge=0)

    # Share of cases that nobody ever reports, by type (assumed; tiny amounts and mules go unseen).
    unreported_card_testing: float = Field(default=0.06, ge=0, le=1)
    unreported_account_takeover: float = Field(default=0.04, ge=0, le=1)
    unreported_merchant_compromise: float = Field(default=0.06, ge=0, le=1)
    unreported_mule_ring: float = Field(default=0.2, ge=0, le=1)
    unreported_lost_card: float = Field(default=0.04, ge=0, le=1)
    unreported_first_party: float = Field(default=0.3, ge=0, le=1)
    # Share of a reported case's rows below `tiny_amount` that its owner overlooks (assumed).
    overlooked_tiny: float = Field(default=0.12, ge=0, le=1)
    # In currency units.
    tiny_amount: float = Field(default=5.0, ge=0)
    # Legitimate online purchases disputed as fraud, per reported fraud (assumed: chargeback abuse is a few per cent).
    abuse_share: float = Field(default=0.03, ge=0, le=1)
    # Share of an acquirer's days whose labels were lost on the way (assumed).
    lost_labels: float = Field(default=0.015, ge=0, le=1)
