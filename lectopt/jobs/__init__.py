"""The jobs of `python -m lectopt`, one a file: `main`, `rate`, `architecture`, `pretrain`.

Each runs on data that installed packages carry, prints tables and writes pictures. May import every other package.
"""
