"""One training loop for every app: `fit.fit(model, train, valid, loss=…, config=config.FitConfig(…))`."""
