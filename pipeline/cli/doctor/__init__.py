"""`stepwell doctor`: what a machine, a recipe, its data and its models have and lack."""
