"""The verdict's process, the student's, and the plain data that cross between them."""
