/* Arithmetic on LANES floats at once: a whole cache line, in whatever vectors the processor has. */

#ifndef TUNIT_LANES_H
#define TUNIT_LANES_H

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define AT(pointer) (*(lanes *)(pointer))

/* One library for every processor of a kind: the loader takes the version that this one can run. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_THIS_PROCESSOR __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FOR_THIS_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

#endif
