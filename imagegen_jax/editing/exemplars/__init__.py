"""What one picture is enough for, without a trained model: its style on another picture, and more of its texture."""
