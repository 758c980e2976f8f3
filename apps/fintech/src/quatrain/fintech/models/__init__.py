"""The fraud models: boosted trees and a perceptron that can be sealed, and the baselines they must beat."""
