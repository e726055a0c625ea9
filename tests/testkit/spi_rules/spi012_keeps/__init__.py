"""An SPI."""
