"""From a folder of good parts to a sealed inspector: choice among scorers, calibration, bundle."""
