/* Winograd's convolution with 3 x 3 kernels, and its gradients. networks/winograd.py defines what they compute,
   winograd_tiles.h how pictures and kernels are transformed to tiles. Between the transforms there are 36 products of
   matrices. They are computed in parts that fit into the caches: a thread takes some tiles and a panel (LANES channels)
   of kernels, multiplies them, and transforms the result before it takes the next ones. */

#include <omp.h>
#include <stdlib.h>

#include "products.h"
#include "winograd_tiles.h"

/* How much a thread processes at a time: tiles in a group, groups, and channels to sum over. */
#define TILES_AT_ONCE 32
#define GROUPS 4
#define DEPTH 128
struct work {
    float products[GROUPS][PLACES * (TILES_AT_ONCE | 1) * LANES], kernels[PLACES * (DEPTH | 1) * LANES];
};

#define OUT_OF_MEMORY 1
#define TILES_PER_KERNELS 256  /* a thread transforms a panel of kernels once for about this many tiles */
#define FLOATS_AT_ONCE 1048576 /* floats of all tiles in use; they must fit into the cache that threads share */

/* How many floats all panels of tiles have together. */
INLINE long floats_of_tiles(struct grid g) {
    return g.c / LANES * panel(g.count);
}

/* How many of n pictures, with h x w outputs and tiles of c channels, are processed together. */
INLINE long pictures_at_once(long n, long h, long w, long c) {
    long some = FLOATS_AT_ONCE / (PLACES * (h / 4) * (w / 4) * c);
    return some < 1 ? 1 : some < n ? some : n;
}

/* The workspace: memory for each thread, and for the tiles of x, of dy, or of both. There is memory for two sets of
   tiles (`turn` 0 and 1), because some threads compute the next tiles while others still use the previous ones. */
struct memory {
    struct work *works;
    float *of_x, *of_dy;
};

INLINE struct memory part_of(float *memory, long of_x, long of_dy, long turn, long threads) {
    struct work *works = (struct work *)memory;
    float *tiles = (float *)(works + threads) + turn * (of_x + of_dy);
    return (struct memory){works, tiles, tiles + of_x};
}

/* How many floats of workspace are enough for all functions below: the convolution, one gradient, or both. */
long tunit_winograd_workspace(long n, long h, long w, long c, long o, long edge, long threads) {
    long of_x = pictures_at_once(n, h, w, c), of_y = pictures_at_once(n, h, w, o);
    long both = of_x < of_y ? of_x : of_y, most = floats_of_tiles(grid_of(of_x, h, w, c, edge));
#define AT_LEAST(number) most = most < (number) ? (number) : most
    AT_LEAST(floats_of_tiles(grid_of(of_y, h, w, o, ZEROS)));
    AT_LEAST(floats_of_tiles(grid_of(both, h, w, c, edge)) + floats_of_tiles(grid_of(both, h, w, o, ZEROS)));
    return threads * (long)(sizeof(struct work) / sizeof(float)) + 2 * most;
}

/* A loop over groups of the tiles `first` to `last` - 1; the tiles of a group are a to b - 1. */
#define FOR_GROUPS(group, a, b)                                                                  \
    for (long group = 0, groups = (last - first + TILES_AT_ONCE - 1) / TILES_AT_ONCE, a = first, \
              b = first + (last - first) / groups;                                               \
         group < groups; group++, a = b, b = first + (last - first) * (group + 1) / groups)

/* Kernels, and the function that transforms `some` of their channels, from channel `from` on, into a panel. */
struct kernels {
    void (*transform)(float *w, float *panel, long c, long from, long some);
    float *w;
    long c; /* channels of all kernels */
};

/* Multiply the tiles `first` to `last` - 1 (at most GROUPS * TILES_AT_ONCE) by a panel of kernels, and sum over all
   channels. `again`: the kernels are the same as in the previous call, so the panel still holds them, unless they have
   more than DEPTH channels. `to`, with the grid `out`: where the caller will write the transformed result; it is loaded
   into the cache here. */
INLINE void multiply_tiles(
    struct work *work, struct kernels kernels, int again, float *tiles, struct grid g, long first, long last, float *to,
    struct grid out) {
    for (long from = 0, all = g.c; from < all; from += DEPTH) {
        long some = all - from < DEPTH ? all - from : DEPTH;
        if (!again || all > DEPTH) kernels.transform(kernels.w, work->kernels, kernels.c, from, some);
        FOR_GROUPS(group, a, b)
            for (long k = 0; k < PLACES; k++) {
                if (from + some == all && a + k < b) prefetch_outputs(to, out, a + k);
                multiply(
                    tiles + from / LANES * panel(g.count) + k * plane(g.count) + a * LANES, panel(g.count),
                    work->kernels + k * plane(some), work->products[group] + k * plane(b - a), from > 0, b - a, some);
            }
    }
}

/* Compute pictures y, with the grid `out`, from tiles, with the grid `x`, and kernels w. All threads of a parallel
   region call this function. */
static void write_pictures(
    float *tiles, float *w, float *bias, float *y, struct work *works, struct grid x, struct grid out) {
    long ranges = (x.count + TILES_PER_KERNELS - 1) / TILES_PER_KERNELS;
#pragma omp for collapse(2) schedule(dynamic) nowait
    for (long o = 0; o < out.c; o += LANES)
        for (long range = 0; range < ranges; range++) {
            struct work *work = works + omp_get_thread_num();
            struct kernels kernels = {transform_kernels_by_output, w + SIDE * SIDE * o * x.c, x.c};
            long begin = x.count * range / ranges, end = x.count * (range + 1) / ranges;
            for (long first = begin, last; first < end; first = last) {
                last = first + GROUPS * TILES_AT_ONCE < end ? first + GROUPS * TILES_AT_ONCE : end;
                multiply_tiles(work, kernels, first > begin, tiles, x, first, last, y + o, out);
                FOR_GROUPS(group, a, b)
                    for (long t = a; t < b; t++)
                        transform_output(
                            work->products[group] + (t - a) * LANES, y + o, bias ? bias + o : bias, out, plane(b - a),
                            t);
            }
        }
}

/* The convolution of x with o kernels, plus a bias (or NULL), to y (n, h, w, o). Returns 1 if memory runs out, or 0. */
long tunit_winograd_convolve(
    float *x, float *kernels, float *bias, float *y, float *memory, long n, long h, long w, long c, long o, long edge,
    long threads) {
    float *outside = calloc(c, sizeof(float));
    if (!outside) return OUT_OF_MEMORY;
    long some = pictures_at_once(n, h, w, c), of_x = floats_of_tiles(grid_of(some, h, w, c, edge));
#pragma omp parallel num_threads(threads)
    for (long first = 0; first < n; first += some) {
        long number = n - first < some ? n - first : some;
        struct grid in = grid_of(number, h, w, c, edge), out = grid_of(number, h, w, o, ZEROS);
        struct memory m = part_of(memory, of_x, 0, first / some % 2, threads);
#pragma omp for schedule(dynamic, 4)
        for (long t = 0; t < in.count; t++) transform_input(x + first * in.h * in.w * c, m.of_x, in, t, outside);
        write_pictures(m.of_x, kernels, bias, y + first * h * w * o, m.works, in, out);
    }
    free(outside);
    return 0;
}

/* Compute the gradients dx of pictures, with the grid `in`, from gradients of the products, with the grid `dy`, and
   kernels w. All threads of a parallel region call this function. Tiles overlap in dx, so each thread takes whole
   pictures. */
static void write_picture_gradients(
    float *d_products, float *w, float *dx, struct work *works, struct grid dy, struct grid in, long n) {
    long one = in.count / n, ranges = (in.count + TILES_PER_KERNELS - 1) / TILES_PER_KERNELS;
    if (ranges > n) ranges = n;
#pragma omp for collapse(2) schedule(dynamic) nowait
    for (long k = 0; k < in.c; k += LANES)
        for (long range = 0; range < ranges; range++) {
            struct work *work = works + omp_get_thread_num();
            struct kernels kernels = {transform_kernels_by_input, w + k, in.c};
            float *to = dx + k;
            long begin = n * range / ranges * one, end = n * (range + 1) / ranges * one;
            float outside[LANES];
            for (long first = begin, last; first < end; first = last) {
                last = first + GROUPS * TILES_AT_ONCE < end ? first + GROUPS * TILES_AT_ONCE : end;
                multiply_tiles(work, kernels, first > begin, d_products, dy, first, last, to, in);
                FOR_GROUPS(group, a, b)
                    for (long t = a; t < b; t++) {
                        if (t % (in.w / OUT) == 0) clear_rows(to, in, t);
                        add_input_gradient(
                            work->products[group] + (t - a) * LANES, to, in, plane(b - a), t, outside);
                    }
            }
        }
}

/* FOR_PANELS: a loop over all pairs (a, b) of a few panels of gradients and a few panels of tiles. PRODUCT: the memory
   for the product of a pair. */
#define PANELS_AT_ONCE 2
#define FOR_PANELS(a, b)                              \
    for (long a = i; a < down && a < i + PANELS_AT_ONCE; a++) \
        for (long b = j; b < right && b < j + PANELS_AT_ONCE; b++)
#define PRODUCT(a, b) (products + ((a - i) * PANELS_AT_ONCE + b - j) * PLACES * LANES * LANES)

/* Compute the gradients dw of kernels from gradients of the products, with the grid `dy`, and tiles, with the grid `x`,
   summed over all tiles; with `add`, add them to dw. All threads of a parallel region call this function. */
static void write_kernel_gradients(
    float *tiles, float *d_products, float *dw, struct work *works, int add, struct grid x, struct grid dy) {
    long down = dy.c / LANES, right = x.c / LANES, count = x.count;
#pragma omp for collapse(2) schedule(dynamic) nowait
    for (long i = 0; i < down; i += PANELS_AT_ONCE)
        for (long j = 0; j < right; j += PANELS_AT_ONCE) {
            float *products = works[omp_get_thread_num()].products[0];
            for (long k = 0; k < PLACES; k++)
                FOR_PANELS(a, b)
                    multiply_transposed(
                        d_products + a * panel(count) + k * plane(count), tiles + b * panel(count) + k * plane(count),
                        PRODUCT(a, b) + k * LANES * LANES, 0, count);
            FOR_PANELS(a, b)
                for (long q = 0; q < LANES; q++)
                    add_kernel_gradient(
                        PRODUCT(a, b) + q * LANES,
                        dw + (a * LANES + q) * SIDE * SIDE * x.c + b * LANES, add, x.c);
        }
}

/* Compute the gradients db of biases from gradients of the products; with `add`, add them to db. The output transform
   adds the product at the position (1, 1) of a tile once to each pixel, so its gradient is the sum of dy over these
   pixels. */
static void write_bias_gradients(float *d_products, float *db, int add, struct grid dy) {
#pragma omp for nowait
    for (long o = 0; o < dy.c; o += LANES) {
        lanes sum[PARTS] = {0};
        float *row = d_products + o / LANES * panel(dy.count) + (TILE + 1) * plane(dy.count);
        for (long t = 0; t < dy.count; t++) EACH(p) sum[p] += PART(row + t * LANES, p);
        if (add) EACH(p) sum[p] += PART(db + o, p);
        EACH(p) PART(db + o, p) = sum[p];
    }
}

/* From the gradient dy of the convolution's output, compute the gradients of its pictures, dx (needs kernels), of its
   kernels, dw (needs pictures x), and of its biases, db. Each may be NULL. Returns 1 if memory runs out, or 0. */
long tunit_winograd_backward(
    float *x, float *dy, float *kernels, float *dx, float *dw, float *db, float *memory, long n, long h, long w, long c,
    long o, long edge, long threads) {
    float *outside = calloc(c, sizeof(float));
    if (!outside) return OUT_OF_MEMORY;
    long some = pictures_at_once(n, h, w, dw && c > o ? c : o);
    long of_x = dw ? floats_of_tiles(grid_of(some, h, w, c, edge)) : 0;
    long of_dy = floats_of_tiles(grid_of(some, h, w, o, ZEROS));
#pragma omp parallel num_threads(threads)
    for (long first = 0; first < n; first += some) {
        long number = n - first < some ? n - first : some;
        struct grid in = grid_of(number, h, w, c, edge), out = grid_of(number, h, w, o, ZEROS);
        struct memory m = part_of(memory, of_x, of_dy, first / some % 2, threads);
#pragma omp for schedule(dynamic, 4) nowait
        for (long t = 0; t < in.count; t++) transform_output_gradient(dy + first * h * w * o, m.of_dy, out, t);
        if (dw) {
#pragma omp for schedule(dynamic, 4) nowait
            for (long t = 0; t < in.count; t++) transform_input(x + first * in.h * in.w * c, m.of_x, in, t, outside);
        }
#pragma omp barrier
        if (dx) write_picture_gradients(m.of_dy, kernels, dx + first * in.h * in.w * c, m.works, out, in, number);
        if (db) write_bias_gradients(m.of_dy, db, first > 0, out);
        if (dw) write_kernel_gradients(m.of_x, m.of_dy, dw, m.works, first > 0, in, out);
    }
    free(outside);
    return 0;
}
