"""How a sealed model does on other images, whether they are of another site, and its repair with few labels."""
