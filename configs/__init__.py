"""One small file per experiment; each gives `get_config(preset)`."""
