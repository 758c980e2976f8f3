"""One training loop for every app: call `fit.fit`, read what it gives from `result.FitResult`."""
