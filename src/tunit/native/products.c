/* The products of matrices that products.h declares. A few rows of the result are kept in registers while the loop runs
   over the depth. This is fast only if both factors are in a cache of the core, so the caller must pass small enough
   parts. */

#include "products.h"

#include "lanes.h"

typedef float all __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if defined(__clang__)
#define UNROLL_TWICE _Pragma("unroll 2")
#else
#define UNROLL_TWICE _Pragma("GCC unroll 2")
#endif
#define MOST_ROWS 8 /* the largest `most` below */

/* Define a function that computes some rows of a product. Element (r, d) of the matrix a is
   a[row * r + step * (d % block) + jump * (d / block)]. */
#define ROWS_OF(name, vector)                                                                             \
    INLINE void name(                                                                                     \
        const int rows, float *a, const long row, const long step, const long block, long jump, float *b, \
        float *out, long keep, long depth) {                                                              \
        enum { wide = sizeof(vector) / sizeof(float), parts = LANES / wide };                             \
        vector sum[MOST_ROWS][parts], v[parts];                                                           \
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < parts; p++)                      \
            sum[r][p] = keep ? *(vector *)(out + LANES * r + wide * p) : (vector){0};                     \
        for (long d = 0; d < depth; d += block, a += jump)                                                \
            UNROLL_TWICE for (long q = 0; q < block; q++, b += LANES) {                        \
                UNROLL for (int p = 0; p < parts; p++) v[p] = *(vector *)(b + wide * p);                  \
                UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < parts; p++)              \
                    sum[r][p] += a[row * r + step * q] * v[p];                                            \
            }                                                                                             \
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int p = 0; p < parts; p++)                      \
            *(vector *)(out + LANES * r + wide * p) = sum[r][p];                                          \
    }

/* Define both products for one kind of CPU, whose registers hold the sums of `most` rows. The rows of the result are
   computed in parts of at most `most` rows, as equal as possible. */
#define PRODUCTS(kind, target, vector, most)                                                                       \
    ROWS_OF(rows_##kind, vector)                                                                                   \
    target static void multiply_##kind(                                                                            \
        float *a, long jump, float *b, float *out, long keep, long rows, long depth) {                             \
        long parts = (rows + most - 1) / most;                                                                     \
        for (long part = 0, first = 0, last; part < parts; part++, first = last) {                                 \
            last = rows * (part + 1) / parts;                                                                      \
            SOME_ROWS(                                                                                             \
                last - first, rows_##kind, a + LANES * first, LANES, 1, LANES, jump, b, out + LANES * first, keep, \
                depth)                                                                                             \
        }                                                                                                          \
    }                                                                                                              \
    target static void multiply_transposed_##kind(float *a, float *b, float *out, long keep, long depth) {         \
        long parts = (LANES + most - 1) / most;                                                                    \
        for (long part = 0, first = 0, last; part < parts; part++, first = last) {                                 \
            last = LANES * (part + 1) / parts;                                                                     \
            SOME_ROWS(                                                                                             \
                last - first, rows_##kind, a + first, 1, LANES, depth, 0, b, out + LANES * first, keep, depth)     \
        }                                                                                                          \
    }

/* Call f for a number of rows that is only known at run time; each number is compiled separately. */
#define SOME_ROWS(rows, f, ...)           \
    switch (rows) {                       \
        case 1: f(1, __VA_ARGS__); break; \
        case 2: f(2, __VA_ARGS__); break; \
        case 3: f(3, __VA_ARGS__); break; \
        case 4: f(4, __VA_ARGS__); break; \
        case 5: f(5, __VA_ARGS__); break; \
        case 6: f(6, __VA_ARGS__); break; \
        case 7: f(7, __VA_ARGS__); break; \
        case 8: f(8, __VA_ARGS__); break; \
    }

#if !TUNIT_X86
PRODUCTS(any, , lanes, 6)
#define CHOOSE(f) f##_any
#elif defined(TUNIT_VECTORS) && TUNIT_VECTORS == 8
PRODUCTS(fma, __attribute__((target("fma"))), lanes, 6)
#define CHOOSE(f) f##_fma
#elif defined(TUNIT_VECTORS)
PRODUCTS(avx512, __attribute__((target("avx512f"))), all, 8)
#define CHOOSE(f) f##_avx512
#else
PRODUCTS(avx512, __attribute__((target("avx512f"))), all, 8)
PRODUCTS(fma, __attribute__((target("fma"))), lanes, 6)
#define CHOOSE(f) (__builtin_cpu_supports("avx512f") ? f##_avx512 : f##_fma)
#endif

void multiply(float *a, long jump, float *b, float *out, long keep, long rows, long depth) {
    CHOOSE(multiply)(a, jump, b, out, keep, rows, depth);
}

void multiply_transposed(float *a, float *b, float *out, long keep, long depth) {
    CHOOSE(multiply_transposed)(a, b, out, keep, depth);
}
