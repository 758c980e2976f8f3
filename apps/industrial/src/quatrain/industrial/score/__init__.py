"""Sealed inspectors on new images, without torch: one image at a time, and folders from cron."""
