"""The explainer models: providers, endpoints, the demonstration model, the answer cache."""
