"""The rules of governance, by concept; time and ids are arguments, and nothing here does IO."""
