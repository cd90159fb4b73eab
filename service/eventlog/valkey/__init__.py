"""The backend on Valkey: logs that the workers of many machines share."""
