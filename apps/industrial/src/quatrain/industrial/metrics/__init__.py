"""How well defects are told from good parts, by image, by pixel and by verdict, with intervals."""
