/* Which functions with which arguments these are; __init__.py calls those of its own number alone. */

#include "lanes.h"

long tunit_interface(void) {
    return 9;
}

/* The floats in a vector of the products: what this CPU, and the compilation, allow; 0 where this CPU has none that
   were compiled. */
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
