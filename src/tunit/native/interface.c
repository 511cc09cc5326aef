/* Which functions with which arguments these are; __init__.py calls those of its own number alone. None, for a
   processor without the products of products.c. */
long tunit_interface(void) {
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("fma")) return 0;
#endif
    return 8;
}
