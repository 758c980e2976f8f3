"""The fraud models: the recipe of boosted trees and a network that can be sealed, and the baselines it must beat."""
