"""What every model is trained, stored and drawn by; it knows no family of models and no data set."""
