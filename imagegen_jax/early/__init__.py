"""Early methods as models, so that tables can begin with them: mixtures of Gaussians, Markov random fields."""
