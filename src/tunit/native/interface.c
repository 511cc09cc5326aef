/* The version of this library's functions and arguments: __init__.py uses only a library of the version it expects. */

#include "lanes.h"

long tunit_interface(void) {
    return 9;
}

/* The floats in a vector of the matrix products, as this CPU and the compilation allow; 0 where this CPU supports none
   of the widths that were compiled. */
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
