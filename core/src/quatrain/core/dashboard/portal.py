"""The script that streamlit runs: one portal for every installed app."""

from __future__ import annotations

from quatrain.core.dashboard import shell

shell.main()
