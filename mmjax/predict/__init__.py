"""What a trained or converted checkpoint says of new pictures and texts."""
