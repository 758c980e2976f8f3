"""New transaction files to scores and alerts, as a batch job that cron can trust."""
