/* Arithmetic on several channels of a pixel at once. The number of channels is a multiple of LANES: as many floats as a
   cache line has. They are processed as PARTS vectors of WIDTH floats. Vectors are not wider than the registers of the
   CPU, because compilers would move wider vectors to memory between operations. */

#ifndef TUNIT_LANES_H
#define TUNIT_LANES_H

/* Channels are handled LANES at a time: in PARTS vectors of the type `lanes`, which has WIDTH floats. */
#define LANES 16

/* TUNIT_VECTORS, given at compilation, forces one width: 4 floats, for any CPU; 8, for AVX with FMA; 16, for AVX-512,
   in matrix products only (the rest of the code uses 8). Without it, a library for x86 contains 8 and 16, of which the
   matrix products use what the CPU supports; a library for other CPUs contains 4. */
#if defined(__x86_64__) && !(defined(TUNIT_VECTORS) && TUNIT_VECTORS == 4)
#define TUNIT_X86 1
#define WIDTH 8
#else
#define TUNIT_X86 0
#define WIDTH 4
#endif
#define PARTS (LANES / WIDTH)
typedef float lanes __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#define AT(pointer) (*(lanes *)(pointer))

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define EACH(p) UNROLL for (int p = 0; p < PARTS; p++)
#define PART(pointer, p) AT((pointer) + WIDTH * (p))
#define INLINE static inline __attribute__((always_inline))

/* v where u is above 0 or NaN, 0 elsewhere. (NaN values must not be hidden.) */
typedef int masks __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
INLINE lanes where_positive(lanes u, lanes v) {
    return (lanes)(~(masks)(u <= 0) & (masks)v);
}

/* Functions are compiled for several kinds of CPUs, and the loader chooses the version for this one. */
#if TUNIT_X86 && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(TUNIT_NO_CLONES)
#define FOR_EACH_CPU __attribute__((target_clones("fma", "default")))
#else
#define FOR_EACH_CPU
#endif

/* Load into the cache what will soon be read (0) or written (1): pixels are too far apart for the CPU to predict it. */
#define PREFETCH(pointer, write) __builtin_prefetch(pointer, write)

/* `count`, or one more if it is even. With an even number of rows, the distance between two positions of a tile
   (winograd_tiles.h) could be a multiple of a page; then many cache lines would compete for the same set of the cache. */
INLINE long odd(long count) {
    return count | 1;
}

/* to[q * LANES + r] = from[r * step + q] for WIDTH rows and columns. */
INLINE void transpose_block(float *from, long step, float *to) {
#if defined(__has_builtin) && WIDTH == 8
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    lanes r[8], s[8];
    UNROLL for (int i = 0; i < 8; i++) r[i] = AT(from + i * step);
    UNROLL for (int i = 0; i < 8; i += 2) {
        s[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLL for (int i = 0; i < 8; i++) {
        int a = (i & 4) | (i >> 1 & 1); /* s[a] is from one pair of rows, s[a + 2] from the next */
        r[i] = i & 1 ? SHUFFLE(s[a], s[a + 2], 2, 3, 10, 11, 6, 7, 14, 15)
                     : SHUFFLE(s[a], s[a + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        AT(to + i * LANES) = SHUFFLE(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        AT(to + (i + 4) * LANES) = SHUFFLE(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    return;
#endif
#endif
    for (int q = 0; q < WIDTH; q++)
        for (int r = 0; r < WIDTH; r++) to[q * LANES + r] = from[r * step + q];
}

/* Transpose one weight of LANES kernels, for LANES channels each: row q of `to` gets channel q of all these kernels.
   `size`: the distance from one kernel to the next. */
INLINE void transpose_weights(float *w, long size, float *to) {
    for (long o = 0; o < LANES; o++) PREFETCH(w + o * size + LANES, 0);
    for (long o = 0; o < LANES; o += WIDTH)
        for (long q = 0; q < LANES; q += WIDTH) transpose_block(w + o * size + q, size, to + q * LANES + o);
}

/* Loops over pictures (n, pixels, c). FOR_PIXELS: over the pixels of a picture. FOR_TERMS: over groups of TERM pixels;
   adding up each group first reduces the rounding errors of a sum over all pixels. FOR_LANES_OF_PICTURES: over pictures
   and LANES channels at a time, which are divided among threads. */
#define TERM 64
#define FOR_PIXELS(i) for (long i = 0; i < pixels; i++)
#define FOR_TERMS(first, last)                                                 \
    for (long first = 0, last = pixels < TERM ? pixels : TERM; first < pixels; \
         first = last, last = last + TERM < pixels ? last + TERM : pixels)
#define FOR_LANES_OF_PICTURES(b, k)                                                           \
    _Pragma("omp parallel for collapse(2) num_threads(threads)") for (long b = 0; b < n; b++) \
        for (long k = 0; k < c; k += LANES)

#endif
