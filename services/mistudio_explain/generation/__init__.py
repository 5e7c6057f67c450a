"""Generation: asks an explainer model and makes a draft of its answer."""
