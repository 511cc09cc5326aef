/* Which functions with which arguments these are; __init__.py calls those of its own number alone. */
long tunit_interface(void) {
    return 6;
}
