/* Arithmetic on the channels of a pixel, several at once. Channels come in multiples of LANES, a cache line of floats,
   which is PARTS vectors of WIDTH. No wider vectors than all these processors have in registers: what a compiler makes
   of others goes through memory. */

#ifndef TUNIT_LANES_H
#define TUNIT_LANES_H

#define LANES 16
#if defined(__x86_64__)
#define WIDTH 8
#else
#define WIDTH 4
#endif
#define PARTS (LANES / WIDTH)
typedef float lanes __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#define AT(pointer) (*(lanes *)(pointer))

#define UNROLL _Pragma("GCC unroll 16")
#define EACH(p) UNROLL for (int p = 0; p < PARTS; p++)
#define PART(pointer, p) AT((pointer) + WIDTH * (p))
#define INLINE static inline __attribute__((always_inline))

/* One library for every processor of a kind: the loader takes the version that this one can run. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_THIS_PROCESSOR __attribute__((target_clones("fma", "default")))
#else
#define FOR_THIS_PROCESSOR
#endif

/* Loops over pictures (n, pixels, c): over the pixels; over the terms of a sum over pixels, for sums of sums round less;
   and over LANES channels of a picture at a time, which threads share. */
#define TERM 64
#define FOR_PIXELS(i) for (long i = 0; i < pixels; i++)
#define FOR_TERMS(first, last)                                                                             \
    for (long first = 0, last = pixels < TERM ? pixels : TERM; first < pixels;                             \
         first = last, last = last + TERM < pixels ? last + TERM : pixels)
#define FOR_LANES_OF_PICTURES(b, k)                                                                        \
    _Pragma("omp parallel for collapse(2) num_threads(threads)") for (long b = 0; b < n; b++)             \
        for (long k = 0; k < c; k += LANES)

#endif
