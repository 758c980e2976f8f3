"""The measures of fraud detection, in NumPy: ranking, card precision, value, calibration, intervals."""
