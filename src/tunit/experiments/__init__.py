"""The paper's experiments: tables as data, run by one driver."""
