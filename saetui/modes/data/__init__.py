"""Mode Data: image sources, encoders, stores."""
