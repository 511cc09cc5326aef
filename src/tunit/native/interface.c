/* The version of the functions' arguments; __init__.py does not use a library of another version. */

#include "lanes.h"

long tunit_interface(void) {
    return 9;
}

/* How many floats a vector of the matrix products has on this CPU; 0 if it supports none of the compiled widths. */
long tunit_vectors(void) {
#if !TUNIT_X86
    return 4;
#else
#if !defined(TUNIT_VECTORS) || TUNIT_VECTORS == 16
    if (__builtin_cpu_supports("avx512f")) return 16;
#endif
#if !defined(TUNIT_VECTORS) || TUNIT_VECTORS == 8
    if (__builtin_cpu_supports("fma")) return 8;
#endif
    return 0;
#endif
}
