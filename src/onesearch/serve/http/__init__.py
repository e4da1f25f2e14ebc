"""The engine over HTTP: requests and answers, limits, metrics, logs, and a page. Needs the extra `serve`."""
