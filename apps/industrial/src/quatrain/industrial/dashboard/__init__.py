"""The inspection pages: parts with their verdicts and maps, and the threshold with what it promises."""
