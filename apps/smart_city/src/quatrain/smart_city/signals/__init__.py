"""What a signal may show: its links, stages, conflicts and intergreens, the shield and the checker."""
