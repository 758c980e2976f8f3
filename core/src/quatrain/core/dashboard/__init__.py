"""The portal: one theme, one navigation and the widgets that every app's pages share."""
