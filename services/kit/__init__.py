"""What every service is built with and none owns: app factory, streaming, settings, logging."""
