"""The gateway: what people and programs ask over HTTP."""
