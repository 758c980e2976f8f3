"""Networks that see small images, and what turns their logits into findings with an honest doubt."""
