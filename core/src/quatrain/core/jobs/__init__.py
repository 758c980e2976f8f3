"""The batch engine under cron: lock, ledger, quarantine, atomic outputs and resume."""
