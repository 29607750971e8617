"""How good networks are: metrics, tables and figures."""
