"""What changes the outside world: promotion and what follows from it."""
