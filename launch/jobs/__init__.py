"""What a person or a program asks for, as plain functions with named, typed arguments. They print nothing."""
